"""The calling conventions of `jax.grad`: argnums, pytrees, which leaves are traced and which have gradients."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes

from ckptgrad.autodiff.reach import reached
from ckptgrad.chain.program import Program, build_program
from ckptgrad.errors import ArgnumsError, GradientTypeError, OptionError, ReferenceTypeError
from ckptgrad.graph.depth import deep_stack
from ckptgrad.graph.graph import Graph, aval_bytes
from ckptgrad.graph.naming import argument_name, leaf_names, standing_for, title
from ckptgrad.graph.references import opened
from ckptgrad.graph.static import SplitCall, is_traced, split_call
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.request import Request
from ckptgrad.target.attached import attached

_NUMBERS = (bool, int, float, complex, np.generic)


@dataclass(frozen=True)
class Call:
    """One call of a function: flattened arguments, and how to put results together again.

    Attributes:
        fun: the function of what is traced.
        args, kwargs: its arguments, None in place of what is not traced.
        argnums: positions of the differentiated arguments, none of them negative.
        original: the user's function.
        parameters: the user's names of `args`, where these are not all the arguments of `original`.
    """

    fun: Callable
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    argnums: tuple[int, ...]
    original: Callable
    parameters: tuple[str, ...] | None = None

    @cached_property
    def leaves(self) -> list[Any]:
        """The leaves of the arguments, numbers as arrays, which rules and pullbacks are written for."""
        return [jnp.asarray(x) if isinstance(x, _NUMBERS) else x for x in jax.tree.leaves((self.args, self.kwargs))]

    @cached_property
    def names(self) -> list[str]:
        """The user's names of the leaves: `params['w']`."""
        return leaf_names(standing_for(self.original, self.fun, self.parameters), self.args, self.kwargs)

    @property
    def primals(self) -> tuple[Any, ...]:
        """The differentiated arguments."""
        return tuple(self.args[i] for i in self.argnums)

    @cached_property
    def selected(self) -> list[int]:
        """Positions in `leaves` of the leaves of the differentiated arguments, in their order."""
        position, found = 0, {}
        for i, arg in enumerate(self.args):
            count = len(jax.tree.leaves(arg))
            found[i] = range(position, position + count)
            position += count
        return [k for i in self.argnums for k in found[i]]

    def unflatten(self, gradients: Sequence[Any]) -> list[Any]:
        """Gradients as pytrees like the differentiated arguments, one an argnum."""
        rest = iter(gradients)
        result = []
        for primal in self.primals:
            leaves, treedef = jax.tree.flatten(primal)
            result.append(jax.tree.unflatten(treedef, [next(rest) for _ in leaves]))
        return result

    def of_primals(self) -> Call:
        """The same as a function of the differentiated arguments alone, in their order."""

        def inner(*primals: Any) -> Any:
            args = list(self.args)
            for i, x in zip(self.argnums, primals, strict=True):
                args[i] = x
            return self.fun(*args, **self.kwargs)

        names = tuple(argument_name(self.original, i, len(self.args), self.kwargs) for i in self.argnums)
        return Call(inner, self.primals, {}, tuple(range(len(self.primals))), self.original, names)


def check_function(fun: Any) -> None:
    """Reject what cannot be differentiated whatever it is called with, as JAX does.

    Raises:
        GradientTypeError: no callable, or a generator function.
    """
    if not callable(fun):
        raise GradientTypeError(f"Expected a callable value to differentiate, got {fun!r}")
    if inspect.isgeneratorfunction(fun):
        raise GradientTypeError(f"Expected a function, got a generator function: {title(fun)}")


def positions(fun: Callable, args: Sequence[Any], argnums: int | Sequence[int]) -> tuple[int, ...]:
    """The argnums of a request as positions from the front, checked against the arguments.

    Raises:
        ArgnumsError: one is out of range.
        OptionError: they name an argument twice.
    """
    numbers = (argnums,) if isinstance(argnums, int) else argnums
    for k in numbers:
        if not -len(args) <= k < len(args):
            needed = k + 1 if k >= 0 else -k
            raise ArgnumsError(
                f"differentiating with respect to argnums={argnums!r} requires at least {needed} positional arguments to be "
                f"passed by the caller, but got only {len(args)} positional arguments, for {title(fun)}"
            )
    found = tuple(k % len(args) for k in numbers)
    if len(set(found)) != len(found):
        raise OptionError(f"argnums={argnums!r} names an argument twice in a call with {len(args)} positional arguments")
    return found


def split_arguments(fun: Callable, args: Sequence[Any], kwargs: dict[str, Any], argnums: Any) -> SplitCall:
    """A call as a function of what is traced of its arguments, which is all of those that `argnums` name."""
    return split_call(fun, args, kwargs, positions(fun, args, argnums))


def make_call(fun: Callable, args: Sequence[Any], kwargs: dict[str, Any], argnums: Any) -> Call:
    """Check argnums against the arguments, and set aside what is not traced.

    Raises:
        ArgnumsError, OptionError: as from `positions`.
        GradientTypeError: a differentiated argument holds what is no array or number.
    """
    return _call(fun, args, kwargs, positions(fun, args, argnums))


def call_of_all(fun: Callable, primals: Sequence[Any]) -> Call:
    """A call all of whose arguments are differentiated, as in `vjp`.

    Raises:
        GradientTypeError: an argument holds what is no array or number.
    """
    return _call(fun, primals, {}, range(len(primals)))


def _call(fun: Callable, args: Sequence[Any], kwargs: dict[str, Any], argnums: Sequence[int]) -> Call:
    split = split_call(fun, args, kwargs, argnums)
    call = Call(split.fun, split.args, split.kwargs, tuple(argnums), fun)
    for k in call.selected:
        _dtype(call.leaves[k], lambda k=k: f"the argument {call.names[k]} of {title(fun)}")
    return call


def has_gradient(leaf: Any) -> bool:
    """Whether a leaf is a float or complex array."""
    return dtypes.issubdtype(_dtype(leaf), jnp.inexact)


def check_inputs(call: Call, allow_int: bool, holomorphic: bool, door: str = "grad") -> None:
    """Reject differentiated leaves that have no gradient, as `jax.grad` does.

    Raises:
        GradientTypeError: naming the argument and its dtype.
    """
    for k in call.selected:
        dtype = _dtype(call.leaves[k])
        if isinstance(call.leaves[k], jax.Ref):
            raise GradientTypeError(
                f"{door} cannot differentiate with respect to a Ref, which the argument {call.names[k]} of "
                f"{title(call.original)} is; pass its value in, and return the new one"
            )
        if holomorphic and not dtypes.issubdtype(dtype, jnp.complexfloating):
            wanted, remedy = "with holomorphic=True requires inputs with complex dtype", "leave holomorphic out"
        elif not dtypes.issubdtype(dtype, jnp.inexact) and not allow_int:
            wanted = "requires real- or complex-valued inputs (input dtype that is a sub-dtype of np.inexact)"
            remedy = "pass allow_int=True for a float0 gradient, or leave the argument out of argnums"
        else:
            continue
        name, where = call.names[k], title(call.original)
        raise GradientTypeError(f"{door} {wanted}, but got {dtype} for the argument {name} of {where}; {remedy}")


def check_real_inputs(call: Call, holomorphic: bool, door: str, allow_int: bool = False) -> None:
    """Reject differentiated leaves along which there is no one real direction, as `jax.jacfwd` does.

    Raises:
        GradientTypeError: naming the argument and its dtype.
    """
    if holomorphic:
        check_inputs(call, allow_int, True, door)
    for k in call.selected:
        dtype = _dtype(call.leaves[k])
        if (
            not holomorphic
            and not dtypes.issubdtype(dtype, jnp.floating)
            and not (allow_int and not has_gradient(call.leaves[k]))
        ):
            name, where = call.names[k], title(call.original)
            raise GradientTypeError(
                f"{door} requires real-valued inputs (input dtype that is a sub-dtype of np.floating), but got {dtype} for "
                f"the argument {name} of {where}; pass holomorphic=True for a holomorphic function, or use ckptgrad.jvp"
            )


def _dtype(leaf: Any, what: Callable[[], str] = lambda: "it") -> Any:
    if not (is_traced(leaf) or isinstance(leaf, _NUMBERS)):
        try:
            return jax.typeof(leaf).dtype
        except (TypeError, AttributeError):
            raise GradientTypeError(
                f"Argument {leaf!r} of type {type(leaf)} is not a valid JAX type: {what()} is differentiated, so it must "
                f"be an array or a number; leave the argument out of argnums, or close over it"
            ) from None
    return getattr(leaf, "dtype", None) or jnp.result_type(leaf)


def float0_zeros(leaf: Any) -> np.ndarray:
    """The gradient of an integer, boolean or key leaf."""
    return np.zeros(np.shape(leaf), dtypes.float0)


_TRACED = object()


@dataclass(frozen=True)
class Returned:
    """What a function returned while it was traced: its structure, and the leaves of aux that are no arrays.

    Attributes:
        references: those from outside that it wrote; what it left in them are the last results of its program.
    """

    tree: Any
    aux_tree: Any
    aux_leaves: tuple[Any, ...]
    references: tuple[Any, ...] = ()

    @property
    def count(self) -> int:
        """The number of leaves of the output."""
        return self.tree.num_leaves

    @property
    def untraced_bytes(self) -> int:
        """Bytes of the numbers and NumPy arrays in aux, which a program around the call returns as arrays."""
        numbers = (x for x in self.aux_leaves if isinstance(x, (bool, int, float, complex, np.ndarray, np.generic)))
        return sum(aval_bytes(jax.typeof(x)) for x in numbers)

    def restore(self, leaves: Sequence[Any]) -> tuple[Any, Any]:
        """(output, aux) from the results of the program, and what it left in references written to them."""
        rest = iter(leaves[self.count :])
        aux = [next(rest) if x is _TRACED else x for x in self.aux_leaves]
        for reference, left in zip(self.references, rest, strict=True):
            reference[...] = left
        return jax.tree.unflatten(self.tree, leaves[: self.count]), jax.tree.unflatten(self.aux_tree, aux)


def trace_graph(call: Call, has_aux: bool, check: Callable[[Any], None] | None = None) -> tuple[Graph, Returned]:
    """Trace a call: its graph, from the leaves of the call to those of the output, then of aux.

    Args:
        call: the call.
        has_aux: the function returns (output, aux).
        check: given the output, rejects what the caller has no use for.

    Raises:
        GradientTypeError: the function returns no pair although `has_aux` says so, or something that is no array.
        ReferenceTypeError: a reference from outside is differentiated, or given what depends on differentiated arguments.
    """
    found: list[Returned] = []

    def traced(*args: Any, **kwargs: Any) -> list[Any]:
        out, aux = call.fun(*args, **kwargs), None
        if has_aux:
            out, aux = _pair(out, call.original)
        if check is not None:
            check(out)
        main, tree = jax.tree.flatten(out)
        extra, aux_tree = jax.tree.flatten(aux)
        for path, leaf in jax.tree_util.tree_flatten_with_path(out)[0]:
            where = f"result{jax.tree_util.keystr(path)} of {title(call.original)}"
            _dtype_of_output(leaf, where)
        arrays = [isinstance(x, jax.Array) for x in extra]
        kept = tuple(_TRACED if m else x for x, m in zip(extra, arrays, strict=True))
        found[:] = [Returned(tree, aux_tree, kept)]
        return main + [x for x, m in zip(extra, arrays, strict=True) if m]

    with deep_stack():
        named = standing_for(call.original, traced, call.parameters)
        closed, references = opened(jax.make_jaxpr(named)(*call.args, **call.kwargs))
        graph = from_jaxpr(closed)
    if references:
        _check_left(call, graph, references)
    return graph, replace(found[0], references=tuple(references))


def _check_left(call: Call, graph: Graph, references: Sequence[Any]) -> None:
    """Reject a differentiated value in a reference from outside, as JAX does: its derivative would be lost."""
    found = reached(graph, [k in call.selected for k in range(len(graph.inputs))])
    for reference, moving in zip(references, found[-len(references) :], strict=True):
        if moving:
            kind = jax.typeof(reference)
            raise ReferenceTypeError(
                problem=f"performing a set/swap operation with a differentiated value on a non-differentiated array "
                f"reference of type {kind}, which {title(call.original)} does to one from outside"
            )


def _pair(out: Any, fun: Callable) -> tuple[Any, Any]:
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        got = f"{len(out)} of them" if isinstance(out, (tuple, list)) else f"a {type(out).__name__}"
        raise GradientTypeError(
            f"expected function with aux output to return a two-element tuple (output, aux), as has_aux=True says, but "
            f"{title(fun)} returned {got}"
        )
    return out[0], out[1]


def _dtype_of_output(leaf: Any, where: str) -> Any:
    try:
        return jax.typeof(leaf).dtype
    except TypeError:
        raise GradientTypeError(
            f"{leaf!r} of type {type(leaf)} is not a valid JAX type: {where} must be an array or a number; return others "
            f"as aux, with has_aux=True"
        ) from None


def check_compiled_aux(returned: Returned, fun: Callable) -> None:
    """Reject aux that a compiled program cannot return.

    Raises:
        GradientTypeError: naming what is no array and no number.
    """
    for leaf in returned.aux_leaves:
        if leaf is not _TRACED and not isinstance(leaf, (*_NUMBERS, np.ndarray)):
            raise GradientTypeError(
                f"{leaf!r} of type {type(leaf)} is not a valid JAX type: aux of {title(fun)} holds it, but a compiled "
                f"gradient returns arrays and numbers alone; leave it out there, or call the gradient without compile"
            )


@dataclass(frozen=True)
class Traced:
    """A traced call: its program, and the structure of its outputs."""

    call: Call
    program: Program
    returned: Returned
    differentiated: tuple[int, ...]
    has_aux: bool

    def gradients(self, found: Sequence[Any]) -> list[Any]:
        """Gradients for all selected leaves from those of the differentiable ones."""
        rest = iter(found)
        leaves = self.call.leaves
        wanted = set(self.differentiated)
        return [next(rest) if k in wanted else float0_zeros(leaves[k]) for k in self.call.selected]


def trace_call(call: Call, request: Request, *, scalar: bool = False) -> Traced:
    """Trace a call and cut it into a chain.

    Args:
        call: the call.
        request: says whether there is aux, which gets no cotangent, and what stages may keep.
        scalar: whether the output must be a real scalar (a complex one for a holomorphic function).

    Raises:
        GradientTypeError: the output is not what `has_aux` or `scalar` ask for.
    """

    def check(out: Any) -> None:
        check_scalar(out, call.original, request.holomorphic)

    graph, returned = trace_graph(call, request.has_aux, check if scalar else None)
    seeds = [a for a in graph.outputs[: returned.count] if dtypes.issubdtype(a.aval.dtype, jnp.inexact)]
    differentiated = [k for k in call.selected if has_gradient(call.leaves[k])]
    wrt = [graph.inputs[k] for k in differentiated]
    program = build_program(graph, wrt, seeds, request.target or attached(), saveable=request.saveable)
    program = replace(program, untraced_bytes=returned.untraced_bytes)
    return Traced(call, program, returned, tuple(differentiated), request.has_aux)


def check_scalar(out: Any, fun: Callable, holomorphic: bool) -> None:
    """Reject a loss that is no real scalar, as `jax.grad` does."""
    problem = "Gradient only defined for scalar-output functions. Output"
    remedy = (
        "To get a gradient, sum it (output.sum()); pass has_aux=True for further outputs; for all derivatives use "
        "ckptgrad.jacobian (as jax.jacobian) or ckptgrad.vjp"
    )
    try:
        aval = jax.typeof(out)
    except TypeError:
        raise GradientTypeError(f"{problem} was a {type(out).__name__}, of {title(fun)}. {remedy}") from None
    if aval.shape != ():
        if aval.size == 1:
            remedy += f"; or take the scalar out: output.reshape(()){' or output[0]' if len(aval.shape) == 1 else ''}"
        raise GradientTypeError(f"{problem} had shape: {aval.shape}. It is that of {title(fun)}. {remedy}")
    wanted = jnp.complexfloating if holomorphic else jnp.floating
    if not dtypes.issubdtype(aval.dtype, wanted):
        remedy = "or, if it is holomorphic, pass holomorphic=True" if not holomorphic else "or leave holomorphic out"
        raise GradientTypeError(
            f"grad {wrong_output(aval.dtype, holomorphic)} from {title(fun)}; use ckptgrad.vjp, {remedy}"
        )


def wrong_output(dtype: Any, holomorphic: bool) -> str:
    """What is wrong with an output's dtype, after the name of a door."""
    if holomorphic:
        return f"with holomorphic=True requires outputs with complex dtype, but got {dtype}"
    return f"requires real-valued outputs (output dtype that is a sub-dtype of np.floating), but got {dtype}"
