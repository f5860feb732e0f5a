"""The calling conventions of `jax.grad`: argnums, pytrees, which leaves have gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes

from ckptgrad.chain.program import Program, build_program
from ckptgrad.errors import GradientTypeError, OptionError
from ckptgrad.graph.trace import from_jaxpr


@dataclass(frozen=True)
class Call:
    """One call of a function: flattened arguments, and how to put results together again."""

    fun: Callable
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    argnums: tuple[int, ...]

    @property
    def leaves(self) -> list[Any]:
        return jax.tree.leaves((self.args, self.kwargs))

    @property
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
        for i in self.argnums:
            leaves, treedef = jax.tree.flatten(self.args[i])
            result.append(jax.tree.unflatten(treedef, [next(rest) for _ in leaves]))
        return result


def make_call(fun: Callable, args: Sequence[Any], kwargs: dict[str, Any], argnums: Any) -> Call:
    """Check argnums against the arguments.

    Raises:
        OptionError: argnums is no int or tuple of ints, out of range, empty or with repetitions.
        GradientTypeError: an argument holds what is no array or scalar.
    """
    numbers = (argnums,) if not isinstance(argnums, (tuple, list)) else tuple(argnums)
    checked = []
    for k in numbers:
        if isinstance(k, bool) or not hasattr(k, "__index__"):
            raise OptionError(f"argnums must be an int or a sequence of ints, got {argnums!r}")
        k = int(k)
        if not -len(args) <= k < len(args):
            raise OptionError(
                f"argnums={argnums!r} asks for positional argument {k}, but {_name(fun)} was called with "
                f"{len(args)} positional arguments"
            )
        checked.append(k % len(args))
    if len(set(checked)) != len(checked) or (args and not checked):
        raise OptionError(f"argnums={argnums!r} must name one argument at least, and each once")
    for leaf in jax.tree.leaves((args, kwargs)):
        _dtype(leaf)
    return Call(fun, tuple(args), dict(kwargs), tuple(checked))


def has_gradient(leaf: Any) -> bool:
    """Whether a leaf is a float or complex array."""
    return dtypes.issubdtype(_dtype(leaf), jnp.inexact)


def check_inputs(call: Call, allow_int: bool, holomorphic: bool) -> None:
    """Reject differentiated leaves that have no gradient, as `jax.grad` does.

    Raises:
        GradientTypeError: naming the leaf's dtype.
    """
    leaves = call.leaves
    for k in call.selected:
        dtype = _dtype(leaves[k])
        if holomorphic and not dtypes.issubdtype(dtype, jnp.complexfloating):
            raise GradientTypeError(f"grad with holomorphic=True requires inputs with complex dtype, but got {dtype}")
        if not dtypes.issubdtype(dtype, jnp.inexact) and not allow_int:
            raise GradientTypeError(
                f"grad requires real- or complex-valued inputs (input dtype that is a sub-dtype of "
                f"np.inexact), but got {dtype}; pass allow_int=True for a float0 gradient, or leave the "
                f"argument out of argnums"
            )
        if dtypes.issubdtype(dtype, jnp.complexfloating) and not holomorphic:
            raise GradientTypeError(
                f"grad requires real-valued inputs, but got {dtype}; for a holomorphic function pass "
                f"holomorphic=True, for others use ckptgrad.vjp"
            )


def _dtype(leaf: Any) -> Any:
    if not (hasattr(leaf, "dtype") or isinstance(leaf, (int, float, complex, bool, np.generic))):
        raise GradientTypeError(
            f"arguments must be arrays or scalars, got {leaf!r} of type {type(leaf).__name__}; "
            f"close over it or mark it static under jax.jit"
        )
    return getattr(leaf, "dtype", None) or jnp.result_type(leaf)


def float0_zeros(leaf: Any) -> np.ndarray:
    """The gradient of an integer, boolean or key leaf."""
    return np.zeros(np.shape(leaf), dtypes.float0)


@dataclass(frozen=True)
class Traced:
    """A traced call: its program, and the structure of its outputs."""

    call: Call
    program: Program
    out_tree: Any
    differentiated: tuple[int, ...]
    has_aux: bool

    def gradients(self, found: Sequence[Any]) -> list[Any]:
        """Gradients for all selected leaves from those of the differentiable ones."""
        rest = iter(found)
        leaves = self.call.leaves
        wanted = set(self.differentiated)
        return [next(rest) if k in wanted else float0_zeros(leaves[k]) for k in self.call.selected]


def trace_call(
    call: Call,
    has_aux: bool,
    *,
    scalar: bool = False,
    holomorphic: bool = False,
    saveable: Callable[..., Any] | None = None,
) -> Traced:
    """Trace a call and cut it into a chain.

    Args:
        call: the call.
        has_aux: the function returns (output, aux); aux gets no cotangent.
        scalar: the output must be a real scalar (or complex, if holomorphic).
        saveable: which operations' results may be kept, as in `jax.checkpoint_policies`.

    Raises:
        GradientTypeError: the output is not what `has_aux` or `scalar` ask for.
    """
    leaves, treedef = jax.tree.flatten((call.args, call.kwargs))
    trees: list[Any] = []

    def flat(*xs):
        args, kwargs = jax.tree.unflatten(treedef, xs)
        out = call.fun(*args, **kwargs)
        if has_aux:
            if not isinstance(out, tuple) or len(out) != 2:
                raise GradientTypeError(
                    f"with has_aux=True {_name(call.fun)} must return a pair (output, aux), got {type(out).__name__}"
                )
            out, aux = out
        else:
            aux = None
        main, main_tree = jax.tree.flatten(out)
        extra, extra_tree = jax.tree.flatten(aux)
        trees[:] = [main_tree, extra_tree, out if scalar else None]
        if scalar:
            check_scalar(out, call.fun, holomorphic)
        return main + extra

    graph = from_jaxpr(jax.make_jaxpr(flat)(*leaves))
    main_tree, extra_tree, _ = trees
    seeds = [a for a in graph.outputs[: main_tree.num_leaves] if _is_inexact(a.aval)]
    differentiated = [k for k in dict.fromkeys(call.selected) if has_gradient(leaves[k])]
    wrt = [graph.inputs[k] for k in differentiated]
    program = build_program(graph, wrt, seeds, saveable=saveable)
    return Traced(call, program, (main_tree, extra_tree), tuple(differentiated), has_aux)


def _is_inexact(aval: Any) -> bool:
    return dtypes.issubdtype(aval.dtype, jnp.inexact)


def check_scalar(out: Any, fun: Callable, holomorphic: bool) -> None:
    """Reject a loss that is no real scalar, as `jax.grad` does."""
    remedy = "return a scalar (sum or mean it), pass has_aux=True for extra outputs, or use ckptgrad.vjp"
    if not hasattr(out, "dtype") and not isinstance(out, (int, float, complex)):
        raise GradientTypeError(
            f"gradient only defined for scalar-output functions; {_name(fun)} returned a {type(out).__name__}; {remedy}"
        )
    if np.shape(out) != ():
        raise GradientTypeError(
            f"gradient only defined for scalar-output functions; {_name(fun)} returned shape {np.shape(out)}; {remedy}"
        )
    dtype = _dtype(out)
    wanted = jnp.complexfloating if holomorphic else jnp.floating
    if not dtypes.issubdtype(dtype, wanted):
        kind = "complex" if holomorphic else "real"
        raise GradientTypeError(f"grad requires a {kind}-valued output, but {_name(fun)} returned {dtype}")


def _name(fun: Callable) -> str:
    return getattr(fun, "__name__", type(fun).__name__)
