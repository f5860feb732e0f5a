"""Cotangents of small graphs at known values: by the engine, by JAX, and operation by operation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes

from ckptgrad.autodiff.cotangent import accumulate
from ckptgrad.autodiff.reverse import active_variables, forward, is_differentiable
from ckptgrad.autodiff.rule import is_zero
from ckptgrad.autodiff.transpose import pull_from
from ckptgrad.compat import scan_counts
from ckptgrad.graph.effects import silent
from ckptgrad.graph.evaluate import apply, needed_operations, read
from ckptgrad.graph.graph import Constant, Graph, Operation, Variable, variables_of
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.rules.subgraphs import carried


def local_cotangents(graph: Graph, inputs: Sequence[Any], wrt: Sequence[int], cotangents: Sequence[Any]) -> list[Any]:
    """Cotangents of the inputs at `wrt` by ckptgrad; None where nothing flows back.

    Args:
        graph: the function.
        inputs: one value per input.
        wrt: positions among the inputs.
        cotangents: one per output; None for zero.
    """
    targets = [graph.inputs[i] for i in wrt]
    return pull_from(forward(graph, inputs, targets), cotangents, targets)


def local_cotangents_by_jax(graph: Graph, inputs: Sequence[Any], wrt: Sequence[int], cotangents: Sequence[Any]) -> list[Any]:
    """The same by `jax.vjp`."""
    seeds = [(k, ct, graph.outputs[k].aval.dtype) for k, ct in enumerate(cotangents) if ct is not None]

    def fun(*xs: Any) -> list[Any]:
        values = list(inputs)
        for i, x in zip(wrt, xs, strict=True):
            values[i] = x
        outputs = graph(*values)
        return [jnp.asarray(outputs[k], dtype) for k, _, dtype in seeds]

    _, pull = jax.vjp(fun, *(inputs[i] for i in wrt))
    return list(pull([jnp.asarray(ct, dtype) for _, ct, dtype in seeds]))


def with_zeros(cotangents: Sequence[Any], avals: Sequence[Any]) -> list[Any]:
    """Zeros in place of None."""
    return [jnp.zeros(a.shape, a.dtype) if ct is None else ct for ct, a in zip(cotangents, avals, strict=True)]


def random_like(aval: Any, rng: np.random.Generator) -> Any:
    """Normal random numbers of an aval's shape and dtype; None where it has no derivative."""
    if not is_differentiable(aval):
        return None
    numbers = rng.standard_normal(aval.shape)
    if dtypes.issubdtype(aval.dtype, jnp.complexfloating):
        numbers = numbers + 1j * rng.standard_normal(aval.shape)
    return jnp.asarray(numbers, aval.dtype)


@dataclass(frozen=True)
class Spot:
    """One operation in a run: what it read, and what flows back into it.

    Attributes:
        op: the operation.
        graph: the operation as a graph of its own, whose inputs are those that are not literals.
        positions: of the graph's inputs among the operation's inputs.
        values: one per input of the operation.
        wrt: positions of the graph's inputs that have a cotangent.
        cotangents: one per output, None for zero.
        input_cotangents: those of the inputs at `wrt`, by ckptgrad.
    """

    op: Operation
    graph: Graph
    positions: tuple[int, ...]
    values: tuple[Any, ...]
    wrt: tuple[int, ...]
    cotangents: tuple[Any, ...]
    input_cotangents: tuple[Any, ...]

    @property
    def inputs(self) -> list[Any]:
        """Values of the graph's inputs."""
        return [self.values[i] for i in self.positions]

    @property
    def differentiated(self) -> list[int]:
        """Positions of the operation's inputs that have a cotangent."""
        return [self.positions[k] for k in self.wrt]


def spots(graph: Graph, inputs: Sequence[Any], wrt: Sequence[int], cotangents: Sequence[Any]) -> Iterator[Spot]:
    """The operations of a graph through which cotangents flow, last first."""
    env: dict[Variable, Any] = {**graph.constants, **dict(zip(graph.inputs, inputs, strict=True))}
    operations = needed_operations(graph.operations, graph.outputs, effects=False)
    for op in operations:
        env.update(zip(op.outputs, apply(silent(op), [read(env, a) for a in op.inputs]), strict=True))
    active = active_variables(graph, [graph.inputs[i] for i in wrt])
    table: dict[Variable, Any] = {}
    for atom, ct in zip(graph.outputs, cotangents, strict=True):
        if ct is not None and isinstance(atom, Variable):
            accumulate(table, atom, ct)
    for op in reversed(operations):
        seeds = tuple(table.pop(v, None) for v in op.outputs)
        if is_zero(op) or all(ct is None for ct in seeds):
            continue
        own, positions = _as_graph(op)
        needed = tuple(k for k, i in enumerate(positions) if op.inputs[i] in active)
        if not needed:
            continue
        values = tuple(_value(env, a) for a in op.inputs)
        input_cotangents = local_cotangents(own, [values[i] for i in positions], needed, seeds)
        for k, ct in zip(needed, input_cotangents, strict=True):
            if ct is not None:
                accumulate(table, op.inputs[positions[k]], ct)
        yield Spot(op, own, positions, values, needed, seeds, tuple(input_cotangents))


def _as_graph(op: Operation) -> tuple[Graph, tuple[int, ...]]:
    positions = tuple(i for i, a in enumerate(op.inputs) if isinstance(a, Variable))
    inputs = [a if isinstance(a, Constant) else Variable(a.aval) for a in op.inputs]
    outputs = [Variable(v.aval) for v in op.outputs]
    return Graph(variables_of(inputs), outputs, [silent(op).replace(inputs, outputs)]), positions


def _value(env: dict[Variable, Any], atom: Any) -> Any:
    return jnp.asarray(atom.value, atom.aval.dtype) if isinstance(atom, Constant) else env[atom]


@dataclass(frozen=True)
class Body:
    """What a loop or branch runs, with the values of one step."""

    graph: Graph
    inputs: tuple[Any, ...]
    wrt: tuple[int, ...]


def bodies(spot: Spot) -> list[Body]:
    """What runs inside an operation: the first and last step of a scan, the first of a while loop, the branch taken."""
    op, values, needs = spot.op, list(spot.values), [i in spot.differentiated for i in range(len(spot.op.inputs))]
    match op.name:
        case "scan":
            return _steps(op, values, needs)
        case "while":
            before, consts = op.params["cond_nconsts"], op.params["body_nconsts"]
            body = from_jaxpr(op.params["body_jaxpr"])
            if not from_jaxpr(op.params["cond_jaxpr"])(*values[:before], *values[before + consts :])[0]:
                return []
            needs = carried(body, needs[before:], consts, len(op.outputs))
            return [_body(body, values[before:], needs)]
        case "cond":
            branch = np.clip(int(values[0]), 0, len(op.params["branches"]) - 1)
            return [_body(from_jaxpr(op.params["branches"][branch]), values[1:], needs[1:])]
    return []


def _steps(op: Operation, values: list[Any], needs: list[bool]) -> list[Body]:
    (n, c), length = scan_counts(op.params), op.params["length"]
    if not length:
        return []
    body, xs = from_jaxpr(op.params["jaxpr"]), values[n + c :]
    needs, backwards = carried(body, needs, n, c), op.params["reverse"]
    first, last = (length - 1, 0) if backwards else (0, length - 1)
    steps = [_body(body, [*values[: n + c], *(x[first] for x in xs)], needs)]
    if length > 1:
        before = [x[1:] if backwards else x[:-1] for x in xs]
        carry = apply(silent(op).with_params(length=length - 1), [*values[: n + c], *before])[:c]
        steps.append(_body(body, [*values[:n], *carry, *(x[last] for x in xs)], needs))
    return steps


def _body(graph: Graph, inputs: Sequence[Any], needs: Sequence[bool]) -> Body:
    wrt = tuple(i for i, (v, n) in enumerate(zip(graph.inputs, needs, strict=True)) if n and is_differentiable(v.aval))
    return Body(graph, tuple(inputs), wrt)
