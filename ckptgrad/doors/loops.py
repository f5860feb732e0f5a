"""The doors `scan`, `fori_loop`, `while_loop`: loops that themselves say how they are reversed.

Code that uses `jax.lax` needs none of them: `cg.grad(f, budget=...)` plans its loops too.  They are for a budget of one
loop, and for use under `jax.grad`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from jax import dtypes, lax
from jax.custom_derivatives import SymbolicZero
from jax.extend import source_info_util
from jax.typing import DTypeLike

from ckptgrad.autodiff.of_function import pushed_forward
from ckptgrad.autodiff.reverse import is_differentiable
from ckptgrad.bytes import Budget, check_budget, is_fit, resolve_budget
from ckptgrad.doors.calling import check_runs
from ckptgrad.errors import BudgetError, OptionError
from ckptgrad.graph.evaluate import apply, read
from ckptgrad.graph.graph import Operation
from ckptgrad.graph.source import user_line
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.loops.candidates import current_offer, loop_candidates
from ckptgrad.loops.linear import Pair, linear
from ckptgrad.loops.loop import Loop
from ckptgrad.loops.plain import reverse_plainly
from ckptgrad.loops.planned import forward_of
from ckptgrad.loops.reversals.reversal import Candidate, registered
from ckptgrad.loops.scan import scan_of
from ckptgrad.loops.while_loop import while_of
from ckptgrad.planning.costs import ABOUT_AS_FAST
from ckptgrad.results.loop_floor import LoopFloor
from ckptgrad.rules.custom import tangent_zeros
from ckptgrad.rules.decorators import instantiate
from ckptgrad.rules.subgraphs import calls_custom_rule
from ckptgrad.target.named import TargetChoice
from ckptgrad.target.named import target as named_target
from ckptgrad.target.roofline import Roofline
from ckptgrad.target.target import Target


def scan(
    f: Callable,
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    *,
    budget: Budget = None,
    policy: str = "optimal",
    accumulate: DTypeLike | None = None,
    target: TargetChoice = None,
) -> tuple[Any, Any]:
    """`jax.lax.scan` whose reverse mode keeps a memory budget, under `jax.grad` too.

    Args:
        f, init, xs, length, reverse, unroll: as for `jax.lax.scan`.
        budget: bytes that the loop may store for its backward and hold in it, operands, results and gradients not
            counted: an int, "64MiB", "0.25x" of what storing every step takes, "min" (the least that is not more than
            twenty times slower than the fastest), or None for the smallest that is about as fast as the fastest.
        policy: "optimal", "store_all", "two_levels" (one checkpoint per group of steps), "revolve" (binomial).
        accumulate: a dtype in which gradients of what the loop closes over are summed, if it is wider than theirs.
        target: what the loop is planned for, as `ckptgrad.target` takes it; None: the default device of this process, also
            inside a gradient for another target.

    Returns:
        The final carried value and the stacked outputs.  Forward mode, `jax.vmap` and higher derivatives work.

    Raises:
        BudgetError: when differentiated, with the smallest number of bytes that is feasible.
        OptionError, BudgetFormatError, MissingExtraError: at once.
        NotAttachedError: when run with arrays, and the target is not attached to this process.

    Example:
        >>> import jax, jax.numpy as jnp, ckptgrad as cg
        >>> def f(x):
        ...     return cg.scan(lambda c, _: (jnp.sin(c), None), x, None, length=100, policy="two_levels")[0]
        >>> bool(jnp.allclose(jax.grad(f)(1.0), cg.grad(f)(1.0)))
        True
    """
    options = _Options(budget, policy, accumulate, target)

    def run(init: Any, xs: Any) -> Any:
        return lax.scan(f, init, xs, length=length, reverse=reverse, unroll=unroll)

    return _planned(run, (init, xs), options)


def fori_loop(
    lower: Any,
    upper: Any,
    body_fun: Callable,
    init_val: Any,
    *,
    unroll: int | bool | None = None,
    budget: Budget = None,
    policy: str = "optimal",
    accumulate: DTypeLike | None = None,
    target: TargetChoice = None,
) -> Any:
    """`jax.lax.fori_loop` whose reverse mode keeps a memory budget; the bounds may be known at run time only.

    Args:
        lower, upper, body_fun, init_val, unroll: as for `jax.lax.fori_loop`.
        budget, policy, accumulate, target: as for `scan`.

    Returns:
        The final value.

    Example:
        >>> import jax, ckptgrad as cg
        >>> f = lambda x, n: cg.fori_loop(0, n, lambda i, c: c * x, 1.0)
        >>> float(jax.jit(jax.grad(f))(2.0, 3))
        12.0
    """
    options = _Options(budget, policy, accumulate, target)

    def run(lower: Any, upper: Any, init: Any) -> Any:
        return lax.fori_loop(lower, upper, body_fun, init, unroll=unroll)

    if all(isinstance(bound, int) for bound in (lower, upper)):
        return _planned(lambda init: run(lower, upper, init), (init_val,), options)
    return _planned(run, (lower, upper, init_val), options)


def while_loop(
    cond_fun: Callable,
    body_fun: Callable,
    init_val: Any,
    *,
    budget: Budget = None,
    policy: str = "optimal",
    accumulate: DTypeLike | None = None,
    target: TargetChoice = None,
) -> Any:
    """`jax.lax.while_loop` with reverse mode: a number of checkpoints that does not depend on the number of steps.

    Args:
        cond_fun, body_fun, init_val: as for `jax.lax.while_loop`.
        budget, policy, accumulate, target: as for `scan`; every step cannot be stored.

    Returns:
        The final value.

    Example:
        >>> import jax, ckptgrad as cg
        >>> root = lambda a: cg.while_loop(lambda x: abs(x * x - a) > 1e-5, lambda x: (x + a / x) / 2, a)
        >>> round(float(jax.grad(root)(4.0)), 4)
        0.25
    """
    options = _Options(budget, policy, accumulate, target)
    return _planned(lambda init: lax.while_loop(cond_fun, body_fun, init), (init_val,), options)


@dataclass(frozen=True)
class _Options:
    """What is asked of a loop.

    Attributes:
        budget, policy, accumulate: as for `scan`.
        choice: the target, in any form in which users name it.

    Raises:
        BudgetFormatError: the budget is malformed.
        OptionError: no policy of loops has this name, or the target is unknown.
        MissingExtraError: the compiler of the target is not installed.
    """

    budget: Budget
    policy: str
    accumulate: DTypeLike | None
    choice: TargetChoice

    def __post_init__(self) -> None:
        check_budget(self.budget)
        if is_fit(self.budget):
            raise OptionError(
                "budget='fit' is not for a single loop: give it to the gradient around, which plans the loops inside it too"
            )
        known = policies()
        if self.policy not in known:
            raise OptionError(f"policy={self.policy!r} is unknown for a loop; there are {', '.join(known)}")
        if self.choice is not None:
            object.__setattr__(self, "choice", named_target(self.choice))

    @property
    def target(self) -> Target:
        """What the loop is planned for; where no target is named, what is the default device now."""
        return named_target(self.choice)


def policies() -> list[str]:
    """What `policy` may be: the fastest of all plans that fit, or of those of some ways to reverse loops."""
    return [*dict.fromkeys(["optimal", *(name for way in registered().values() for name in way.policies)])]


def _planned(fun: Callable, args: tuple[Any, ...], options: _Options) -> Any:
    """Run a function that is one loop, with the derivative that was asked for."""
    leaves, tree = jax.tree.flatten(args)
    # Python numbers stay known in the graph, so that a counter that starts at one of them is recognised.
    arrays = [x for x in leaves if hasattr(x, "dtype")]
    trees: list[Any] = []

    def flat(*xs: Any) -> list[Any]:
        rest = iter(xs)
        filled = [next(rest) if hasattr(x, "dtype") else x for x in leaves]
        out, out_tree = jax.tree.flatten(fun(*jax.tree.unflatten(tree, filled)))
        trees[:] = [out_tree]
        return out

    here = source_info_util.current()  # that of the loop's operation knows nothing beyond this function
    graph = from_jaxpr(jax.make_jaxpr(flat)(*arrays))
    env: dict[Any, Any] = dict(graph.constants)
    env.update(zip(graph.inputs, arrays, strict=True))
    for op in graph.operations:
        values = [read(env, a) for a in op.inputs]
        run = _with_plan(op, options, here) if op.name in ("scan", "while") else None
        env.update(zip(op.outputs, apply(op, values) if run is None else run(*values), strict=True))
    return jax.tree.unflatten(trees[0], [read(env, a) for a in graph.outputs])


def _with_plan(op: Operation, options: _Options, here: Any) -> Callable[..., list[Any]]:
    """The loop as a function of its operands that is differentiated as planned."""

    @jax.custom_jvp
    def run(*operands: Any) -> list[Any]:
        check_runs(options.target, operands)
        return apply(op, operands)

    def rule(operands: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        check_runs(options.target, operands)
        live = [not isinstance(t, SymbolicZero) and t.dtype != dtypes.float0 for t in tangents]
        return _tangents(op, options, here, operands, [t for t, m in zip(tangents, live, strict=True) if m], live)

    run.defjvp(rule, symbolic_zeros=True)
    return run


def _tangents(
    op: Operation, options: _Options, here: Any, operands: Sequence[Any], tangents: Sequence[Any], live: Sequence[bool]
) -> tuple[list[Any], list[Any]]:
    loop = (scan_of if op.name == "scan" else while_of)(op, live, True, options.accumulate)
    loop.check_repeatable(op.name, user_line(here))
    reversal = _chosen(loop, options, partial(_floor, op, here)).reversal
    outputs = forward_of(reversal, loop)(*operands)
    results, stored = outputs[: len(loop.out_avals)], outputs[len(loop.out_avals) :]
    count = len(operands)
    moving = [k for k, a in enumerate(loop.out_avals) if is_differentiable(a)]
    moved = [i for i, m in enumerate(live) if m]

    def pushed(*xs: Any) -> list[Any]:
        directions: list[Any | None] = [None] * count
        for i, t in zip(moved, xs[count + len(stored) :], strict=True):
            directions[i] = t
        tangents = pushed_forward(lambda *args: list(loop.definition(*args)), xs[:count], directions)
        return [instantiate(tangents[k], loop.out_avals[k]) for k in moving]

    def cotangents(xs: Sequence[Any]) -> list[Any | None]:
        known = dict(zip(moving, xs, strict=True))
        return [known.get(k) for k in range(len(loop.out_avals))]

    def of_moved(gradients: Sequence[Any | None]) -> list[Any]:
        return [instantiate(gradients[i], loop.operand_avals[i]) for i in moved]

    def pulled(*xs: Any) -> list[Any]:
        kept, seeds = xs[count : count + len(stored)], xs[count + len(stored) :]
        return of_moved(reversal.backward(loop, xs[:count], kept, cotangents(seeds)))

    def plainly(*xs: Any) -> list[Any]:
        return of_moved(reverse_plainly(loop, xs[:count])[1](*cotangents(xs[count + len(stored) :])))

    arguments = tuple(loop.operand_avals[i].update(weak_type=False) for i in moved)
    seeds = tuple(loop.out_avals[k].update(weak_type=False) for k in moving)
    proved = not calls_custom_rule(loop.body.graph)
    pair = Pair(count + len(stored), pushed, pulled, pushed, plainly, arguments, seeds, proved)
    known = dict(zip(moving, linear(pair, [*operands, *stored], tangents), strict=True))
    return results, [known[k] if k in known else tangent_zeros(a) for k, a in enumerate(loop.out_avals)]


def _chosen(loop: Loop, options: _Options, floor: Callable[[Candidate, float, int], LoopFloor]) -> Candidate:
    """The fastest plan of the policy within the budget; `floor` tells of the smallest one where none is."""
    target = options.target
    offered = _offered(loop, options.policy, Roofline(target))
    fastest = min(c.seconds for c in offered)
    sensible = [c for c in offered if c.seconds <= current_offer().slowest * fastest]
    every = [c.bytes for c in offered if "store_all" in c.policies] or [max(c.bytes for c in sensible)]
    limit = resolve_budget(options.budget, lambda: min(every), lambda: min(c.bytes for c in sensible), target.free_bytes)
    if limit is None:
        about = [c for c in offered if c.seconds <= (1 + ABOUT_AS_FAST) * fastest]
        return min(about, key=lambda c: c.bytes)
    fitting = [c for c in offered if c.bytes <= limit]
    if not fitting:
        least = min(offered, key=lambda c: (c.bytes, c.seconds))
        raise BudgetError(limit, least.bytes, None, options.policy, floor=lambda: floor(least, fastest, min(every)))
    return min(fitting, key=lambda c: (c.seconds, c.bytes))


def _floor(op: Operation, here: Any, least: Candidate, fastest: float, everything: int) -> LoopFloor:
    inside = least.bytes - least.stored
    return LoopFloor(op.name, user_line(here), least.name, least.stored, inside, least.seconds, fastest, everything)


def _offered(loop: Loop, policy: str, roofline: Roofline) -> list[Candidate]:
    """The plans of a loop that belong to a policy.

    Raises:
        OptionError: none does.
    """
    every = loop_candidates(loop, roofline, None)
    offered = [c for c in every if policy == "optimal" or policy in c.policies]
    if not offered and loop.length is not None:
        return every  # Of one step or none: there is nothing to choose.
    if not offered:
        others = [name for name in policies() if name == "optimal" or any(name in c.policies for c in every)]
        raise OptionError(f"policy={policy!r} needs a loop of known length; use {' or '.join(map(repr, others))}")
    return offered
