"""Jacobians: `jacrev`, `jacfwd`, `hessian`, and `jacobian`, which chooses the cheapest bracketing."""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes

from ckptgrad.bytes import Budget
from ckptgrad.doors.calling import (
    Call,
    Returned,
    check_function,
    check_inputs,
    check_real_inputs,
    has_gradient,
    make_call,
    trace_graph,
    wrong_output,
)
from ckptgrad.doors.forward import push_along
from ckptgrad.doors.vjp import pull
from ckptgrad.errors import GradientTypeError, OptionError
from ckptgrad.graph.evaluate import like_aval
from ckptgrad.graph.graph import Graph
from ckptgrad.graph.naming import name_of, title
from ckptgrad.jacobian.bracketing import Bracket, best_bracket
from ckptgrad.jacobian.segments import Segment, Values, cut_where_small, evaluate_bracket, size_of, split
from ckptgrad.planning.schedule import Schedule
from ckptgrad.request import Request

Mode = Literal["auto", "forward", "reverse"]


def jacrev(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    budget: Budget = None,
    policy: str | Callable | Schedule = "optimal",
) -> Callable:
    """The Jacobian of `fun`, a row at a time by reverse mode, as `jax.jacrev`.

    Args:
        fun: a function of arrays to any pytree of arrays.
        argnums, has_aux, holomorphic, allow_int: as for `grad`.
        budget, policy: as for `value_and_grad`, for one row.

    Returns:
        A function that returns the Jacobian: for each leaf of the output the structure of the
        argument, with leaves of shape (output shape + argument shape); with `has_aux` a pair.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> cg.jacrev(jnp.cumsum)(jnp.ones(2)).tolist()
        [[1.0, 0.0], [1.0, 1.0]]
    """
    check_function(fun)
    request = Request(argnums, has_aux, holomorphic, allow_int, budget, policy)

    @functools.wraps(fun)
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        call = make_call(fun, args, kwargs, request.argnums)
        check_inputs(call, allow_int, holomorphic, "jacrev")
        out, pullback, *aux = pull(call, request)
        _check_output(call, out, holomorphic, "jacrev")
        leaves = jax.tree.leaves(call.primals)
        real = [i for i, x in enumerate(leaves) if has_gradient(x)]

        def row(ct):
            found = jax.tree.leaves(pullback(ct))
            return [found[i] for i in real]

        columns = jax.vmap(row)(_basis(out))
        blocks = [dict(zip(real, parts, strict=True)) for parts in zip(*(_parts(c, out) for c in columns), strict=True)]
        if not columns:
            blocks = [{} for _ in jax.tree.leaves(out)]
        found = _assemble(call, out, request, lambda o, i: blocks[o].get(i))
        return (found, aux[0]) if has_aux else found

    return jacobian_of


def jacfwd(fun: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False) -> Callable:
    """The Jacobian of `fun`, a column at a time by forward mode, as `jax.jacfwd`.

    Args:
        fun: a function of arrays to any pytree of arrays.
        argnums, has_aux, holomorphic: as for `grad`.

    Returns:
        As for `jacrev`.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> cg.jacfwd(jnp.cumsum)(jnp.ones(2)).tolist()
        [[1.0, 0.0], [1.0, 1.0]]
    """
    check_function(fun)
    request = Request(argnums, has_aux, holomorphic)

    @functools.wraps(fun)
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        call = make_call(fun, args, kwargs, request.argnums)
        check_real_inputs(call, holomorphic, "jacfwd")
        primals = call.primals

        def column(direction):
            return push_along(call, direction, has_aux)

        out, moves, *aux = jax.vmap(column, out_axes=(None, -1, None) if has_aux else (None, -1))(_basis(primals))
        if holomorphic:
            _check_output(call, out, True, "jacfwd")
        leaves = jax.tree.leaves(out)
        rows = [_parts(jnp.moveaxis(m, -1, 0), primals) if has_gradient(y) else None for m, y in _pairs(moves, out)]

        def block(o: int, i: int) -> Any:
            part = rows[o]
            # Input sizes lead in each part; they belong behind the output's.
            return None if part is None else _behind(part[i], np.ndim(leaves[o])).astype(leaves[o].dtype)

        found = _assemble(call, out, request, block, of_output=True)
        return (found, aux[0]) if has_aux else found

    return jacobian_of


def hessian(fun: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False) -> Callable:
    """The Hessian of `fun`, forward over reverse, as `jax.hessian`.

    Example:
        >>> import ckptgrad as cg
        >>> float(cg.hessian(lambda x: x**3)(2.0))
        12.0
    """
    return jacfwd(jacrev(fun, argnums, has_aux, holomorphic), argnums, has_aux, holomorphic)


@dataclass(frozen=True)
class JacobianPlan:
    """How a Jacobian will be computed, and what that costs.

    Attributes:
        bracket: the product; `str(bracket)` writes it with the latest stage on the left.
        sizes: the numbers at the boundaries between the stages.
        forward, reverse: the multiplications of plain forward and plain reverse mode.
    """

    bracket: Bracket
    sizes: tuple[int, ...]
    forward: int
    reverse: int

    @property
    def multiplications(self) -> int:
        return self.bracket.multiplications

    def __str__(self) -> str:
        return (
            f"{self.bracket}\nboundaries: {' '.join(map(str, self.sizes))}\n"
            f"multiplications: {self.multiplications:,}; plain forward {self.forward:,}, plain reverse {self.reverse:,}"
        )


class JacobianFunction:
    """What `jacobian` returns: call it for the Jacobian, `plan` it for the count of multiplications."""

    def __init__(self, fun: Callable, request: Request, mode: Mode):
        check_function(fun)
        self.fun, self.request = fun, request
        self.mode: Mode = mode
        functools.update_wrapper(self, fun, updated=())
        self.__name__ = name_of(fun)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """A function in a class is a method."""
        return self if instance is None else types.MethodType(self, instance)

    def plan(self, *args: Any, **kwargs: Any) -> JacobianPlan:
        """The bracketing for these arguments (arrays or ShapeDtypeStructs)."""
        return self._prepare(args, kwargs)[4]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call, graph, returned, segments, plan = self._prepare(args, kwargs)
        values = Values(graph, call.of_primals().leaves, segments)
        out, aux = returned.restore(values.outputs)

        def result(block: Callable[[int, int], Any]) -> Any:
            found = _assemble(call, out, self.request, block)
            return (found, aux) if self.request.has_aux else found

        if not segments:
            return result(lambda o, i: None)
        matrix = evaluate_bracket(plan.bracket, segments, values)
        inside, outside = segments[0].inside, segments[-1].outside
        ends = np.cumsum([math.prod(v.shape) for v in outside]).tolist()
        rows = {v: matrix[a:b] for v, a, b in zip(outside, [0, *ends], ends, strict=False)}
        columns = {v: k for k, v in enumerate(inside)}

        def block(o: int, i: int) -> Any:
            atom, v = graph.outputs[o], graph.inputs[i]
            if atom not in rows or v not in columns:
                return None
            part = jax.vmap(lambda row: split(row, inside)[columns[v]])(rows[atom])
            return part.reshape(atom.aval.shape + v.shape).astype(v.dtype)

        return result(block)

    def _prepare(self, args: Any, kwargs: Any) -> tuple[Call, Graph, Returned, list[Segment], JacobianPlan]:
        call = make_call(self.fun, args, kwargs, self.request.argnums)
        check_real_inputs(call, self.request.holomorphic, "jacobian", self.request.allow_int)

        def check(out: Any) -> None:
            _check_output(call, out, self.request.holomorphic, "jacobian")

        graph, returned = trace_graph(call.of_primals(), self.request.has_aux, check)
        main = Graph(graph.inputs, graph.outputs[: returned.count], graph.operations)
        segments = cut_where_small(main, graph.inputs)
        return call, graph, returned, segments, _plan(segments, self.mode)


def _plan(segments: Sequence[Segment], mode: Mode) -> JacobianPlan:
    if not segments:
        return JacobianPlan(Bracket(0, -1, "forward", 0), (0,), 0, 0)
    sizes = (size_of(segments[0].inside), *(size_of(s.outside) for s in segments))
    costs = [s.multiplications for s in segments]
    last = len(segments) - 1
    plain = {
        "forward": Bracket(0, last, "forward", sizes[0] * sum(costs)),
        "reverse": Bracket(0, last, "reverse", sizes[-1] * sum(costs)),
    }
    bracket = best_bracket(sizes, costs) if mode == "auto" else plain[mode]
    return JacobianPlan(bracket, sizes, plain["forward"].multiplications, plain["reverse"].multiplications)


def jacobian(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    mode: Mode = "auto",
) -> JacobianFunction:
    """The Jacobian of `fun` by the bracketing with the fewest multiplications.

    The function is cut into stages where few numbers cross, and the product of the stage Jacobians
    is bracketed by dynamic programming: forward mode, reverse mode, and dense products wherever a
    narrow boundary makes them cheaper.  Each factor is computed when the sweep comes to it.

    Args:
        fun: a function of real arrays to any pytree of real arrays; of complex ones, if it is holomorphic.
        argnums, has_aux, holomorphic, allow_int: as for `jacrev`.
        mode: "auto", or "forward" or "reverse" for one of the two alone.

    Returns:
        A function that returns the Jacobian as `jacrev` does, and whose `plan(*args)` tells the
        bracketing and its multiplications against plain forward and plain reverse mode.

    Raises:
        OptionError: an unknown mode.
        GradientTypeError: when called, for arguments or outputs that are not real.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> wide = jnp.ones((50, 2))
        >>> narrow = cg.jacobian(lambda x: jnp.sin(wide @ (wide.T @ jnp.cos(x))))
        >>> plan = narrow.plan(jnp.ones(50))
        >>> plan.multiplications < min(plan.forward, plan.reverse)
        True
    """
    if mode not in ("auto", "forward", "reverse"):
        raise OptionError(f"mode={mode!r} is unknown; there is 'auto', 'forward', 'reverse'")
    return JacobianFunction(fun, Request(argnums, has_aux, holomorphic, allow_int), mode)


def _check_output(call: Call, out: Any, holomorphic: bool, door: str) -> None:
    wanted = jnp.complexfloating if holomorphic else jnp.floating
    for path, leaf in jax.tree_util.tree_flatten_with_path(out)[0]:
        dtype = getattr(leaf, "dtype", None) or jnp.result_type(leaf)
        if not dtypes.issubdtype(dtype, wanted):
            where = f"result{jax.tree_util.keystr(path)} of {title(call.original)}"
            raise GradientTypeError(f"{door} {wrong_output(dtype, holomorphic)} for {where}; use ckptgrad.vjp")


def _basis(tree: Any) -> Any:
    """All unit vectors of a tree: each leaf with a leading axis over all entries of the tree."""
    leaves, structure = jax.tree.flatten(tree)
    sizes = [np.size(x) for x in leaves]
    count, start, found = sum(sizes), 0, []
    for x, n in zip(leaves, sizes, strict=True):
        dtype = getattr(x, "dtype", None) or jnp.result_type(x)
        found.append(jnp.eye(count, n, -start, dtype).reshape(count, *np.shape(x)))
        start += n
    return jax.tree.unflatten(structure, found)


def _parts(stacked: Any, tree: Any) -> list[Any]:
    """An array stacked over all entries of a tree, divided among its leaves."""
    shapes = [np.shape(x) for x in jax.tree.leaves(tree)]
    ends = np.cumsum([math.prod(s) for s in shapes]).tolist()
    pieces = zip([0, *ends], ends, shapes, strict=False)
    return [stacked[a:b].reshape(*shape, *stacked.shape[1:]) for a, b, shape in pieces]


def _pairs(tree: Any, other: Any) -> list[tuple[Any, Any]]:
    """The leaves of two trees of one structure, by pairs."""
    return list(zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True))


def _behind(part: Any, out_ndim: int) -> Any:
    """The last `out_ndim` axes of an array moved to the front."""
    lead = part.ndim - out_ndim
    return jnp.transpose(part, [*range(lead, part.ndim), *range(lead)])


def _assemble(call: Call, out: Any, request: Request, block: Callable[[int, int], Any], of_output: bool = False) -> Any:
    """Blocks (output leaf, input leaf) as a tree of the outputs, of trees of the arguments.

    Where there is no block it is zeros, of the dtype of the input leaf, or of that of the output leaf.
    """
    out_leaves, out_tree = jax.tree.flatten(out)
    in_leaves, in_tree = jax.tree.flatten(call.primals)

    def one(o: int, i: int) -> Any:
        y, x = out_leaves[o], in_leaves[i]
        # As in JAX there is no float0 inside a Jacobian.
        found, aval = block(o, i) if has_gradient(x) else None, jax.typeof(y if of_output else x)
        return like_aval(jnp.zeros(np.shape(y) + np.shape(x), aval.dtype) if found is None else found, aval)

    rows = []
    for o in range(len(out_leaves)):
        rows.append(request.for_argnums(jax.tree.unflatten(in_tree, [one(o, i) for i in range(len(in_leaves))])))
    return jax.tree.unflatten(out_tree, rows)
