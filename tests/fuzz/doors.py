"""A program differentiated by both engines, and whether they agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import ckptgrad as cg
from tests.fuzz.interpret import evaluate
from tests.fuzz.prelude import INSIDE, NAMES, OURS, PLANNED, THEIRS
from tests.fuzz.program import DIFFERENTIATED, Program

# Relative to the largest entry: both compute in double precision, in another order.
TOLERANCE = 1e-7
BUDGETS = [None, None, "min", "0.3x", "0.6x", "1x"]
POLICIES = ["store_all", "recompute_all", "every_k", "sqrt", "revolve", "rotor"]


@dataclass(frozen=True)
class Question:
    """How a program is differentiated.

    Attributes:
        door: a name of `DOORS`.
        options: budget and policy.
    """

    door: str
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What came out: `kind` is one of agree, differ, ours raises, theirs raises, not finite."""

    kind: str
    detail: str = ""


def arguments() -> tuple[Any, ...]:
    """One point for all programs."""
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
    """Of all that a program returns, the loss twice."""

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
        (value, aux), (slope, moved) = engine.jvp(_on_floats(program, args), args[: len(DIFFERENTIATED)], _tangents(args))
        return value, slope, aux, [t for t in jax.tree.leaves(moved) if t.dtype != jax.dtypes.float0]

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
    """JAX's forward mode through this engine's gradient.  (Its reverse mode would meet loops of unknown length.)"""

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
    """JAX's reverse mode of a program with a plan."""
    fun = cg.checkpoint(program, **options) if engine is cg else program
    return jax.value_and_grad(fun, argnums=DIFFERENTIATED, has_aux=True)


def _jax_of_doors(engine: Any, program: Callable, **_: Any) -> Callable:
    """JAX's reverse mode of a program whose loops and checkpoints have plans of their own."""
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


SECOND = ("grad of grad", "jvp of grad", "jax.jvp of grad")
LOOPS = ("scan", "while_loop", "fori_loop", "lax.map")


def _is_refused(door: str, source: str) -> bool:
    """Forward mode of a `custom_vjp`, and reverse mode by JAX of the derivative of a loop of unknown length."""
    if door == "jax.grad of loops with plans":
        return "while_loop" in source and any(word in source for word in ("jax.grad(", "jax.jvp(", "jax.vjp("))
    if door in SECOND and "custom_jvp" in source and any(word in source for word in LOOPS):
        # A second time JAX differentiates a rule's value by the rule in straight code, and by its function in a scan.
        return True
    return door in ("jvp", "linearize") and "custom_vjp" in source


def draw_question(rng: np.random.Generator, source: str) -> Question:
    """A door, a budget and a policy for a program."""
    weights = np.array([0 if _is_refused(name, source) else w for name, (_, w) in DOORS.items()])
    door = list(DOORS)[rng.choice(len(DOORS), p=weights / weights.sum())]
    if rng.random() < 0.65:
        return Question(door, (("budget", BUDGETS[rng.integers(len(BUDGETS))]),))
    return Question(door, (("policy", POLICIES[rng.integers(len(POLICIES))]),))


def compiled_program(source: str) -> Callable:
    """The function `program` of a source."""
    names = dict(NAMES)
    exec(compile(source, "<program>", "exec"), names)
    return names["program"]


def judge(program: Program, question: Question, *, interpreted: bool = True) -> Verdict:
    """Whether both engines agree on a program: types first, then numbers.  Under `jax.enable_x64`."""
    source = program.source()
    mixed = any(word in source for word in ("float32", "bfloat16", "u,", "u)"))
    inside = question.door not in ("jvp", "linearize", *SECOND) and any(w in source for w in ("jax.grad(", "jax.vjp("))
    return compare(compiled_program(source), question, wide=mixed, interpreted=interpreted, inside=inside)


def compare(
    program: Callable, question: Question, *, wide: bool = True, interpreted: bool = True, inside: bool = False
) -> Verdict:
    """Whether both engines agree on `program(doors, x, y, m, u, n, key)`.

    Args:
        program: what is differentiated.
        question: how.
        wide: whether numbers are carried in double precision.
        interpreted: whether results are evaluated operation by operation, not compiled.
        inside: whether the program calls JAX's reverse mode itself, which a loop of unknown length needs a plan for.
    """
    door, _ = DOORS[question.door]
    options = dict(question.options)
    args = arguments()
    mine = PLANNED if question.door == "jax.grad of loops with plans" else INSIDE if inside else OURS

    def theirs(*args):
        return door(jax, lambda *a: program(THEIRS, *a))(*args)

    def ours(*args):
        return door(cg, lambda *a: program(mine, *a), **options)(*args)

    try:
        wanted, numbers = _run(theirs, args, wide, interpreted)
    except Exception as error:
        return Verdict("theirs raises", _told(error))
    try:
        try:
            found, others = _run(ours, args, wide, interpreted)
        except cg.BudgetError as error:
            options = {"budget": error.smallest}
            found, others = _run(ours, args, wide, interpreted)
    except Exception as error:
        # A branch that is not taken is not seen by the interpreter, and a compiler may refuse it.
        refused = _refusal(theirs, args) if interpreted else ""
        return Verdict("theirs raises", refused) if refused else Verdict("ours raises", _told(error))
    if wanted != found:
        return Verdict("differ", f"types: ours {found}, JAX's {wanted}")
    return _same_numbers(others, numbers)


def _run(fun: Callable, args: Any, wide: bool, interpreted: bool) -> tuple[Any, list[Any]]:
    """The types and the numbers of what a function returns."""
    closed, out = jax.make_jaxpr(fun, return_shape=True)(*args)
    leaves, tree = jax.tree.flatten(out)
    types = tree, [(leaf.shape, str(leaf.dtype)) for leaf in leaves]
    numbers = evaluate(closed, args, wide=wide) if interpreted else jax.tree.leaves(jax.jit(fun)(*args))
    return types, [np.asarray(n) for n in numbers if n.dtype != jax.dtypes.float0]


def _refusal(fun: Callable, args: Any) -> str:
    """What a function raises when it is compiled."""
    try:
        jax.jit(fun).lower(*args)
    except Exception as error:
        return _told(error)
    return ""


def _same_numbers(found: list[Any], wanted: list[Any]) -> Verdict:
    wanted = [w.astype(_readable(w.dtype)) for w in wanted]
    found = [f.astype(_readable(f.dtype)) for f in found]
    if not all(np.isfinite(w).all() for w in wanted):
        return Verdict("not finite")
    for k, (f, w) in enumerate(zip(found, wanted, strict=True)):
        most = float(np.max(np.abs(w), initial=1e-2))
        apart = float(np.max(np.abs(f - w), initial=0.0))
        if not apart <= TOLERANCE * most:
            return Verdict("differ", f"result {k}: ours {f.tolist()}, JAX's {w.tolist()}")
    return Verdict("agree")


def _readable(dtype: Any) -> Any:
    return np.complex128 if dtype.kind == "c" else np.float64


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"
