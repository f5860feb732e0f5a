# pyright: reportUnknownMemberType=false
"""What stands for a planned computation in a joint graph: a marker while it is traced, a function when it runs.

A planned computation is differentiated again by its definition, the same without a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.core import Primitive

from ckptgrad.autodiff.of_function import pulled_back, pushed_forward
from ckptgrad.autodiff.reverse import is_differentiable
from ckptgrad.graph.atoms import is_in_host
from ckptgrad.graph.traits import state_class
from ckptgrad.rules.custom import tangent_zeros


def marker(name: str, out_avals: Callable[..., list[Any]]) -> Primitive:
    """A primitive that says of which types its results are, and cannot run: a plan replaces it."""
    primitive = Primitive(name)
    state_class(name, "heavy")
    primitive.multiple_results = True
    primitive.def_abstract_eval(out_avals)
    return primitive


@dataclass(frozen=True, eq=False)
class Running:
    """Stands where a primitive stands: a function that runs what was planned."""

    name: str
    run: Callable[..., list[Any]]
    multiple_results = True

    def get_bind_params(self, params: dict[str, Any]) -> dict[str, Any]:
        return {}

    def bind(self, *inputs: Any, **params: Any) -> list[Any]:
        return self.run(*inputs)


def defined_by(
    run: Callable[..., list[Any]], definition: Callable[..., list[Any]], read: Sequence[int], reverse: bool
) -> Callable[..., list[Any]]:
    """`run`, differentiated by its definition.

    Args:
        run: a function of arrays.
        definition: from some of them to the first of its results; no derivative flows through the others.
        read: the positions of these arrays.
        reverse: whether its derivative is known in reverse mode only.
    """
    if reverse:
        return _with_cotangents(run, definition, read)
    function = jax.custom_jvp(run)

    @function.defjvp
    def _(inputs: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        results = function(*inputs)
        known = [None if tangents[i].dtype == jax.dtypes.float0 else tangents[i] for i in read]
        pushed = pushed_forward(definition, [inputs[i] for i in read], known)
        pushed += [None] * (len(results) - len(pushed))
        pairs = zip(pushed, map(jax.typeof, results), strict=True)
        return results, [_zeros(aval) if t is None else t for t, aval in pairs]

    return function


def _zeros(aval: Any) -> Any:
    """The tangent of a value on which nothing depends; where the value is."""
    zeros = tangent_zeros(aval)
    return jax.device_put(zeros, jax.memory.Space.Host) if is_in_host(aval) and is_differentiable(aval) else zeros


def _with_cotangents(
    run: Callable[..., list[Any]], definition: Callable[..., list[Any]], read: Sequence[int]
) -> Callable[..., list[Any]]:
    function = jax.custom_vjp(run)

    def bwd(inputs: Sequence[Any], cotangents: Sequence[Any]) -> tuple[Any, ...]:
        operands = [inputs[i] for i in read]
        needs = [is_differentiable(jax.typeof(x)) for x in operands]
        count = len(jax.eval_shape(definition, *operands))
        known = [None if ct.dtype == jax.dtypes.float0 else ct for ct in cotangents[:count]]
        gradients = dict(zip(read, pulled_back(definition, operands, needs, known), strict=True))
        return tuple(gradients.get(i) for i in range(len(inputs)))

    function.defvjp(lambda *inputs: (run(*inputs), inputs), bwd)
    return function
