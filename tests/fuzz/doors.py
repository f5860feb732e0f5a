"""Differentiate a program with both engines, and compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import ckptgrad as cg
from tests.fuzz.interpret import evaluate
from tests.fuzz.prelude import NAMES, OURS, OURS_UNDER_JAX, PLANNED, THEIRS
from tests.fuzz.program import DIFFERENTIATED, Program

# Relative to the largest entry: both engines compute in double precision, but in a different order.
TOLERANCE = 1e-7
BUDGETS = [None, None, "min", "0.3x", "0.6x", "1x"]
POLICIES = ["store_all", "recompute_all", "every_k", "sqrt", "revolve", "rotor"]


@dataclass(frozen=True)
class Question:
    """How to differentiate a program.

    Attributes:
        door: a key of `DOORS`.
        options: budget or policy.
    """

    door: str
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The outcome: `kind` is one of agree, differ, ours raises, theirs raises, not finite."""

    kind: str
    detail: str = ""


def arguments() -> tuple[Any, ...]:
    """The point at which every program is differentiated."""
    m = jnp.sin(jnp.arange(16.0) * 1.7 + 0.3).reshape(4, 4)
    u = jnp.array([0.4, -0.8, 1.2, 0.1], jnp.float32)
    x, y = jnp.array([0.31, -0.62, 0.93, 0.47]), jnp.array([-0.21, 0.74, 0.36, 1.13])
    return x, y, m, u, jnp.int32(2), jax.random.PRNGKey(7)


def _tangents(args: Any) -> Any:
    return tuple(jnp.cos(3 * jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape) for a in args[: len(DIFFERENTIATED)])


def _on_floats(program: Callable, args: Any) -> Callable:
    return lambda *floats: program(*floats, *args[len(floats) :])


def _value_and_grad(engine: Any, program: Callable, **options: Any) -> Callable:
    return engine.value_and_grad(program, argnums=DIFFERENTIATED, has_aux=True, **options)


def _inside_jit(engine: Any, program: Callable, **options: Any) -> Callable:
    return jax.jit(engine.value_and_grad(jax.jit(program), argnums=DIFFERENTIATED, has_aux=True, **options))


def _pullback(engine: Any, program: Callable, **options: Any) -> Callable:
    """The pullback of everything that a program returns, with the loss twice."""

    def run(*args):
        def whole(*floats):
            loss, aux = program(*floats, *args[len(floats) :])
            return loss, aux, loss

        value, back = engine.vjp(whole, *args[: len(DIFFERENTIATED)], **options)
        return value, back(jax.tree.map(_cotangent, value))

    return run


def _cotangent(value: Any) -> Any:
    if jnp.issubdtype(value.dtype, jnp.inexact):
        return jnp.full_like(value, 0.7)
    return np.zeros(value.shape, jax.dtypes.float0)


def _forward(engine: Any, program: Callable, **_: Any) -> Callable:
    def run(*args):
        (value, aux), (slope, aux_tangents) = engine.jvp(
            _on_floats(program, args), args[: len(DIFFERENTIATED)], _tangents(args)
        )
        return value, slope, aux, [t for t in jax.tree.leaves(aux_tangents) if t.dtype != jax.dtypes.float0]

    return run


def _linearized(engine: Any, program: Callable, **_: Any) -> Callable:
    def run(*args):
        value, push = engine.linearize(lambda *a: _on_floats(program, args)(*a)[0], *args[: len(DIFFERENTIATED)])
        return value, push(*_tangents(args))

    return run


def _gradient_only(engine: Any, program: Callable, **options: Any) -> Callable:
    return engine.grad(lambda *args: program(*args)[0], argnums=DIFFERENTIATED, **options)


def _forward_over_reverse(engine: Any, program: Callable, **options: Any) -> Callable:
    def run(*args):
        first = _on_floats(_gradient_only(engine, program, **options), args)
        return engine.jvp(first, args[: len(DIFFERENTIATED)], _tangents(args))

    return run


def _reverse_over_reverse(engine: Any, program: Callable, **options: Any) -> Callable:
    def inner(*args):
        return sum(jnp.sum(jnp.sin(g).astype(jnp.float64)) for g in _gradient_only(engine, program, **options)(*args))

    return engine.grad(inner, argnums=DIFFERENTIATED)


def _mixed(engine: Any, program: Callable, **options: Any) -> Callable:
    """JAX's forward mode of this engine's gradient. (Its reverse mode would meet loops of unknown length.)"""

    def run(*args):
        first = _on_floats(_gradient_only(engine, program, **options), args)
        return jax.jvp(first, args[: len(DIFFERENTIATED)], _tangents(args))

    return run


def _batched(engine: Any, program: Callable, **options: Any) -> Callable:
    def run(x, *rest):
        return jax.vmap(_value_and_grad(engine, program, **options), in_axes=(0, *[None] * len(rest)))(
            jnp.stack([x, jnp.cos(x)]), *rest
        )

    return run


def _planned(engine: Any, program: Callable, **options: Any) -> Callable:
    """JAX's reverse mode of a program under `cg.checkpoint`."""
    fun = cg.checkpoint(program, **options) if engine is cg else program
    return jax.value_and_grad(fun, argnums=DIFFERENTIATED, has_aux=True)


def _jax_of_doors(engine: Any, program: Callable, **_: Any) -> Callable:
    """JAX's reverse mode of a program whose loops and checkpoints carry their own plans."""
    return jax.value_and_grad(program, argnums=DIFFERENTIATED, has_aux=True)


DOORS: dict[str, tuple[Callable, float]] = {
    "value_and_grad": (_value_and_grad, 8),
    "inside jit": (_inside_jit, 2),
    "vjp": (_pullback, 2),
    "jvp": (_forward, 2),
    "linearize": (_linearized, 1),
    "jvp of grad": (_forward_over_reverse, 1.5),
    "grad of grad": (_reverse_over_reverse, 1),
    "jax.jvp of grad": (_mixed, 1),
    "vmap of grad": (_batched, 1.5),
    "jax.grad of checkpoint": (_planned, 1.5),
    "jax.grad of loops with plans": (_jax_of_doors, 1.5),
}


SECOND_DERIVATIVES = ("grad of grad", "jvp of grad", "jax.jvp of grad")
LOOPS = ("scan", "while_loop", "fori_loop", "lax.map")


def _is_refused(door: str, source: str) -> bool:
    """Combinations that an engine refuses, or for which JAX's answer depends on how the program is written."""
    if door == "jax.grad of loops with plans":  # JAX's reverse mode of the derivative of a loop of unknown length
        return "while_loop" in source and any(word in source for word in ("jax.grad(", "jax.jvp(", "jax.vjp("))
    if door in SECOND_DERIVATIVES and "custom_jvp" in source and any(word in source for word in LOOPS):
        # JAX's second derivative of a rule's value uses the rule in straight-line code, but the function inside a scan.
        return True
    return door in ("jvp", "linearize") and "custom_vjp" in source  # forward mode of a custom_vjp


def draw_question(rng: np.random.Generator, source: str) -> Question:
    """A door for a program, with a budget or a policy."""
    weights = np.array([0 if _is_refused(name, source) else w for name, (_, w) in DOORS.items()])
    door = list(DOORS)[rng.choice(len(DOORS), p=weights / weights.sum())]
    if rng.random() < 0.65:
        return Question(door, (("budget", BUDGETS[rng.integers(len(BUDGETS))]),))
    return Question(door, (("policy", POLICIES[rng.integers(len(POLICIES))]),))


def compiled_program(source: str) -> Callable:
    """The function `program` that a source defines."""
    names = dict(NAMES)
    exec(compile(source, "<program>", "exec"), names)
    return names["program"]


def judge(program: Program, question: Question, *, interpreted: bool = True) -> Verdict:
    """Whether both engines agree on a program: first the types, then the numbers. Call under `jax.enable_x64`."""
    source = program.source()
    mixed = any(word in source for word in ("float32", "bfloat16", "u,", "u)"))
    reverses = question.door not in ("jvp", "linearize", *SECOND_DERIVATIVES)
    under_jax = reverses and any(word in source for word in ("jax.grad(", "jax.vjp("))
    function = compiled_program(source)
    return compare(function, question, double_precision=mixed, interpreted=interpreted, under_jax=under_jax)


def compare(
    program: Callable,
    question: Question,
    *,
    double_precision: bool = True,
    interpreted: bool = True,
    under_jax: bool = False,
) -> Verdict:
    """Whether both engines agree on `program(doors, x, y, m, u, n, key)`.

    Args:
        program: the function to differentiate.
        question: how to differentiate it.
        double_precision: whether to compute in double precision, whatever dtypes the program has.
        interpreted: whether to evaluate the results operation by operation, instead of compiling them.
        under_jax: whether the program itself calls JAX's reverse mode, for which a loop of unknown length needs a plan.
    """
    door, _ = DOORS[question.door]
    options = dict(question.options)
    args = arguments()
    our_doors = PLANNED if question.door == "jax.grad of loops with plans" else OURS_UNDER_JAX if under_jax else OURS

    def theirs(*args):
        return door(jax, lambda *a: program(THEIRS, *a))(*args)

    def ours(*args):
        return door(cg, lambda *a: program(our_doors, *a), **options)(*args)

    try:
        their_types, their_numbers = _run(theirs, args, double_precision, interpreted)
    except Exception as error:
        return Verdict("theirs raises", _summary(error))
    try:
        try:
            our_types, our_numbers = _run(ours, args, double_precision, interpreted)
        except cg.BudgetError as error:
            options = {"budget": error.smallest}
            our_types, our_numbers = _run(ours, args, double_precision, interpreted)
    except Exception as error:
        # The interpreter does not see a branch that is not taken; JAX may refuse it when it compiles.
        refused = _refusal(theirs, args) if interpreted else ""
        return Verdict("theirs raises", refused) if refused else Verdict("ours raises", _summary(error))
    if our_types != their_types:
        return Verdict("differ", f"types: ours {our_types}, JAX's {their_types}")
    return _compare_numbers(our_numbers, their_numbers)


def _run(fun: Callable, args: Any, double_precision: bool, interpreted: bool) -> tuple[Any, list[Any]]:
    """The types and the values of a function's results."""
    closed, out = jax.make_jaxpr(fun, return_shape=True)(*args)
    leaves, tree = jax.tree.flatten(out)
    types = tree, [(leaf.shape, str(leaf.dtype)) for leaf in leaves]
    numbers = (
        evaluate(closed, args, double_precision=double_precision) if interpreted else jax.tree.leaves(jax.jit(fun)(*args))
    )
    return types, [np.asarray(n) for n in numbers if n.dtype != jax.dtypes.float0]


def _refusal(fun: Callable, args: Any) -> str:
    """The error that a function raises when compiled; empty if it raises none."""
    try:
        jax.jit(fun).lower(*args)
    except Exception as error:
        return _summary(error)
    return ""


def _compare_numbers(ours: list[Any], theirs: list[Any]) -> Verdict:
    ours = [a.astype(_double_dtype(a.dtype)) for a in ours]
    theirs = [b.astype(_double_dtype(b.dtype)) for b in theirs]
    if not all(np.isfinite(b).all() for b in theirs):
        return Verdict("not finite")
    for k, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        scale = float(np.max(np.abs(b), initial=1e-2))
        distance = float(np.max(np.abs(a - b), initial=0.0))
        if not distance <= TOLERANCE * scale:
            return Verdict("differ", f"result {k}: ours {a.tolist()}, JAX's {b.tolist()}")
    return Verdict("agree")


def _double_dtype(dtype: Any) -> Any:
    return np.complex128 if dtype.kind == "c" else np.float64


def _summary(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"
