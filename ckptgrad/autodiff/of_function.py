"""Differentiation of small functions at known values: what some rules are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from ckptgrad.autodiff.forward_mode import push
from ckptgrad.autodiff.reverse import forward
from ckptgrad.autodiff.transpose import pull_from, scatter
from ckptgrad.graph.trace import from_jaxpr, struct


def pulled_back(fun: Callable, inputs: Sequence[Any], wanted: Sequence[bool], cotangents: Sequence[Any]) -> list[Any]:
    """Cotangents of the inputs of a function; None where zero or not wanted."""
    graph = from_jaxpr(jax.make_jaxpr(fun)(*inputs))
    places = [i for i, w in enumerate(wanted) if w]
    tape = forward(graph, inputs, [graph.inputs[i] for i in places])
    return scatter(pull_from(tape, cotangents, [graph.inputs[i] for i in places]), places, len(inputs))


def pushed_forward(fun: Callable, inputs: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    """Tangents of the results of a function; None where zero."""
    graph = from_jaxpr(jax.make_jaxpr(fun)(*map(struct_of, inputs)))
    _, found = push(graph, inputs, tangents)
    return found


def struct_of(value: Any) -> Any:
    """The struct of a value."""
    return struct(jax.typeof(value))
