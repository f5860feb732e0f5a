"""Jacobians: `jacrev`, `jacfwd`, `hessian`, and `jacobian`, which chooses the cheapest bracketing."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ckptgrad.autodiff.reverse import active_variables
from ckptgrad.bytes import Budget
from ckptgrad.compat import CUSTOM_VJP, HI_CALL
from ckptgrad.doors.calling import Call, check_function, check_runs, make_call
from ckptgrad.doors.forward import push_along
from ckptgrad.doors.inputs import check_inputs, check_real_inputs
from ckptgrad.doors.leaves import has_gradient
from ckptgrad.doors.outputs import check_real_outputs
from ckptgrad.doors.tracing import Traced, trace_graph
from ckptgrad.doors.vjp import pull
from ckptgrad.errors import OptionError
from ckptgrad.graph.graph import Graph
from ckptgrad.graph.naming import name_of
from ckptgrad.jacobian.blocks import assemble, basis, last_axes_first, split_basis
from ckptgrad.jacobian.plan import MODES, JacobianPlan, Mode, plan_product
from ckptgrad.jacobian.segments import Segment, Values, blocks_of, cut_where_small, evaluate_bracket
from ckptgrad.planning.schedule import Schedule
from ckptgrad.request import Request
from ckptgrad.rules.forms import gradients_in
from ckptgrad.rules.subgraphs import calls_any
from ckptgrad.target.named import TargetChoice


def jacrev(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    budget: Budget = None,
    policy: str | Callable | Schedule = "optimal",
    target: TargetChoice = None,
) -> Callable:
    """The Jacobian of `fun`, a row at a time by reverse mode, as `jax.jacrev`.

    Args:
        fun: a function of arrays to any pytree of arrays.
        argnums, has_aux, holomorphic, allow_int: as for `grad`.
        budget, policy, target: as for `value_and_grad`, for one row.

    Returns:
        A function that returns the Jacobian: for each leaf of the output the structure of the
        argument, with leaves of shape (output shape + argument shape); with `has_aux` a pair.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> cg.jacrev(jnp.cumsum)(jnp.ones(2)).tolist()
        [[1.0, 0.0], [1.0, 1.0]]
    """
    check_function(fun)
    request = Request(argnums, has_aux, holomorphic, allow_int, budget, policy, target=target, encodings=())

    @functools.wraps(fun)
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        call = make_call(fun, args, kwargs, request.argnums)
        check_inputs(call, allow_int, holomorphic, "jacrev")
        out, pullback, *aux = pull(call, request)
        check_real_outputs(out, fun, holomorphic, "jacrev")
        differentiated = [i for i, x in enumerate(jax.tree.leaves(call.primals)) if has_gradient(x)]

        def row(cotangent: Any) -> list[Any]:
            gradients = jax.tree.leaves(pullback(cotangent))
            return [gradients[i] for i in differentiated]

        stacked = dict(zip(differentiated, jax.vmap(row)(basis(out)), strict=True))
        blocks = {i: split_basis(rows, out) for i, rows in stacked.items()}
        tree = assemble(out, call.primals, request.for_argnums, lambda o, i: blocks[i][o])
        return (tree, aux[0]) if has_aux else tree

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
        check_real_inputs(call, False, holomorphic, "jacfwd")

        def column(tangents: Any) -> tuple[Any, ...]:
            return push_along(call, tangents, has_aux)

        out_axes = (None, -1, None) if has_aux else (None, -1)
        out, stacked, *aux = jax.vmap(column, out_axes=out_axes)(basis(call.primals))
        if holomorphic:
            check_real_outputs(out, fun, holomorphic, "jacfwd")
        leaves = jax.tree.leaves(out)
        pairs = zip(leaves, jax.tree.leaves(stacked), strict=True)
        columns = [split_basis(jnp.moveaxis(m, -1, 0), call.primals) if has_gradient(y) else None for y, m in pairs]

        def block(o: int, i: int) -> Any:
            parts, y = columns[o], leaves[o]
            return None if parts is None else last_axes_first(parts[i], np.ndim(y)).astype(y.dtype)

        tree = assemble(out, call.primals, request.for_argnums, block, of_output=True)
        return (tree, aux[0]) if has_aux else tree

    return jacobian_of


def hessian(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    *,
    target: TargetChoice = None,
) -> Callable:
    """The Hessian of `fun`, forward over reverse, as `jax.hessian`.

    Args:
        fun: a function of arrays to any pytree of arrays.
        argnums, has_aux, holomorphic: as for `grad`.
        target: as for `value_and_grad`.

    Returns:
        A function that returns for each leaf of the output the second derivatives, as the Jacobian of the Jacobian.

    Example:
        >>> import ckptgrad as cg
        >>> float(cg.hessian(lambda x: x**3)(2.0))
        12.0
    """
    request = Request(argnums, has_aux, holomorphic, target=target)
    columns = jacfwd(jacrev(fun, argnums, has_aux, holomorphic, target=request.target), argnums, has_aux, holomorphic)

    @functools.wraps(fun)
    def hessian_of(*args: Any, **kwargs: Any) -> Any:
        # The gradient inside is traced, whatever is given here.
        check_runs(request.compiled_for, (args, kwargs))
        return columns(*args, **kwargs)

    return hessian_of


class JacobianFunction:
    """What `jacobian` returns: call it for the Jacobian, `plan` it for the count of multiplications."""

    def __init__(self, fun: Callable, request: Request, mode: Mode) -> None:
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
        return self._planned(self._trace(self._call(args, kwargs)))[1]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call, target = self._call(args, kwargs), self.request.compiled_for
        check_runs(target, call.leaves)
        traced = self._trace(call)
        segments, plan = self._planned(traced)
        values = Values(traced.graph, traced.call.leaves, segments)
        blocks: dict[tuple[Any, Any], Any] = {}
        if segments:
            with gradients_in(target.forms):
                matrix = evaluate_bracket(plan.bracket, segments, values)
            blocks = blocks_of(matrix, segments[-1].outside, segments[0].inside)
        out, aux = traced.restore(values.outputs)
        tree = assemble(
            out,
            call.primals,
            self.request.for_argnums,
            lambda o, i: blocks.get((traced.graph.outputs[o], traced.graph.inputs[i])),
        )
        return (tree, aux) if self.request.has_aux else tree

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        call = make_call(self.fun, args, kwargs, self.request.argnums)
        check_real_inputs(call, self.request.allow_int, self.request.holomorphic, "jacobian")
        return call

    def _trace(self, call: Call) -> Traced:
        def check(out: Any) -> None:
            check_real_outputs(out, self.fun, self.request.holomorphic, "jacobian")

        return trace_graph(call.of_primals(), self.request.has_aux, check)

    def _planned(self, traced: Traced) -> tuple[list[Segment], JacobianPlan]:
        """The segments, and their product.

        A `jax.custom_vjp` function has no forward mode, and its rule need not be linear: what it makes of the cotangents
        of the outputs is then not what a product of Jacobians is.  With such functions there is one sweep back.
        """
        graph = Graph(traced.graph.inputs, traced.outputs, traced.graph.operations)
        active = active_variables(graph, graph.inputs)
        moved = (op for op in graph.operations if not active.isdisjoint(op.inputs) and not active.isdisjoint(op.outputs))
        backwards = calls_any(moved, (CUSTOM_VJP, HI_CALL))
        segments = cut_where_small(graph, graph.inputs, whole=backwards)
        return segments, plan_product(segments, "reverse" if backwards and self.mode == "auto" else self.mode)


def jacobian(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    mode: Mode = "auto",
    target: TargetChoice = None,
) -> JacobianFunction:
    """The Jacobian of `fun` by the bracketing with the fewest multiplications.

    The function is cut into stages where few numbers cross, and the product of the stage Jacobians
    is bracketed by dynamic programming: forward mode, reverse mode, and dense products wherever a
    narrow boundary makes them cheaper.  Each factor is computed when the sweep comes to it.  Through
    `jax.custom_vjp` functions it is reverse mode alone.

    Args:
        fun: a function of real arrays to any pytree of real arrays; of complex ones, if it is holomorphic.
        argnums, has_aux, holomorphic, allow_int: as for `jacrev`.
        mode: "auto", or "forward" or "reverse" for one of the two alone.
        target: what the Jacobian is going to be compiled for, as for `value_and_grad`; the bracketing is the same for all.

    Returns:
        A function that returns the Jacobian as `jacrev` does; its `plan(*args)` gives the bracketing and its
        multiplications, against those of plain forward and plain reverse mode.

    Raises:
        OptionError: an unknown mode or target.
        MissingExtraError: the compiler of the target is not installed.
        NotAttachedError: when called with arrays, and the target is not attached to this process.
        GradientTypeError: when called, for arguments or outputs that are not real.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> wide = jnp.ones((50, 2))
        >>> narrow = cg.jacobian(lambda x: jnp.sin(wide @ (wide.T @ jnp.cos(x))))
        >>> plan = narrow.plan(jnp.ones(50))
        >>> plan.multiplications < min(plan.forward, plan.reverse)
        True
    """
    if mode not in MODES:
        raise OptionError(f"mode={mode!r} is unknown; there are {', '.join(map(repr, MODES))}")
    return JacobianFunction(fun, Request(argnums, has_aux, holomorphic, allow_int, target=target), mode)
