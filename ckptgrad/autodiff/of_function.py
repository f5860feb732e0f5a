# pyright: reportUnknownMemberType=false
"""Derivatives of small functions at known values, for rules that are defined through other primitives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from ckptgrad.autodiff.forward_mode import push_tangents
from ckptgrad.autodiff.reverse import forward
from ckptgrad.autodiff.transpose import pull_from, spread_over
from ckptgrad.graph.atoms import Array
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.graph.value_types import struct


def pulled_back(
    fun: Callable[..., Any], inputs: Sequence[Array], needs: Sequence[bool], cotangents: Sequence[Array | None]
) -> list[Array | None]:
    """Cotangents of the needed inputs of a function; None where zero or not needed."""
    graph = from_jaxpr(jax.make_jaxpr(fun)(*inputs))
    places = [i for i, n in enumerate(needs) if n]
    tape = forward(graph, inputs, [graph.inputs[i] for i in places])
    return spread_over(len(inputs), places, pull_from(tape, cotangents, [graph.inputs[i] for i in places]))


def pushed_forward(fun: Callable[..., Any], inputs: Sequence[Array], tangents: Sequence[Array | None]) -> list[Array | None]:
    """Tangents of the results of a function; None where zero."""
    graph = from_jaxpr(jax.make_jaxpr(fun)(*map(struct_of, inputs)))
    return push_tangents(graph, inputs, tangents)[1]


def struct_of(value: Array) -> Any:
    """The struct of a value."""
    return struct(jax.typeof(value))
