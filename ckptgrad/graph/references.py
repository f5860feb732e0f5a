# pyright: reportUnknownMemberType=false
"""Mutable references (`jax.new_ref`) inside a program: taken apart, so that their values are carried instead.

Reading and writing become slices and scatters of the value that a reference holds at that point; loops carry the values
of the references that their bodies read or write, branches take and return them, and calls are inlined.  Programs that
are given no reference (of custom functions, say) but make some are replaced by pure ones.  References that a program
captures are read when it is opened; what it leaves in them are further results, to be written back when it has run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import dtypes, lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, primitives
from jax.ref import AbstractRef

from ckptgrad.compat import called_program, has_no_derivative, holds_references, scan_counts
from ckptgrad.errors import ReferenceTypeError
from ckptgrad.graph.atoms import Array
from ckptgrad.graph.branching import branched
from ckptgrad.graph.evaluate import apply
from ckptgrad.graph.graph import Operation
from ckptgrad.graph.reference_views import read_at, written_at
from ckptgrad.graph.source import at_line_of, user_line
from ckptgrad.graph.value_types import struct

PROGRAMS = (ClosedJaxpr, Jaxpr)


def is_reference(atom: Any) -> bool:
    return isinstance(atom.aval, AbstractRef)


def without_references(closed: Any) -> Any:
    """A closed program without the references that are made inside it.

    Raises:
        ReferenceTypeError: a reference comes from outside, or goes where it cannot be followed.
    """
    jaxpr = getattr(closed, "jaxpr", closed)
    for v in (*jaxpr.constvars, *jaxpr.invars):
        if is_reference(v):
            raise ReferenceTypeError(_first_use(jaxpr, v))
    if not _makes_references(closed):
        return closed
    return _without(closed)


def opened(closed: Any) -> tuple[Any, list[Any]]:
    """A closed program that captures no reference, and the captured references that it may write.

    What it leaves in these are its last results; what all captured references hold now are its constants.
    """
    jaxpr = closed.jaxpr
    outside = {v: (ref, ref[...]) for v, ref in zip(jaxpr.constvars, closed.consts, strict=True) if is_reference(v)}
    if not outside or any(map(is_reference, jaxpr.invars)):
        return closed, []
    written: list[Any] = []

    def run(*inputs: Any) -> list[Any]:
        cells = {v: _Cell(value, has_no_derivative(v.aval)) for v, (_, value) in outside.items()}
        outputs = _run(closed, inputs, cells)
        left = [(ref, cells[v].value) for v, (ref, value) in outside.items() if cells[v].value is not value]
        written[:] = [ref for ref, _ in left]
        return [*outputs, *(value for _, value in left)]

    return jax.make_jaxpr(run)(*(struct(v.aval) for v in jaxpr.invars)), written


def _without(program: Any) -> Any:
    jaxpr = getattr(program, "jaxpr", program)

    def run(*inputs: Any) -> list[Any]:
        return _run(program, inputs)

    return jax.make_jaxpr(run)(*(struct(v.aval) for v in jaxpr.invars))


def _first_use(jaxpr: Any, reference: Any) -> Any:
    """The line that first reads or writes a reference."""
    return next((user_line(eqn.source_info) for eqn in jaxpr.eqns if any(a is reference for a in eqn.invars)), None)


def _makes_references(program: Any) -> bool:
    return holds_references(program.effects)


class _Cell:
    """What stands for one reference: the value that it holds.

    Attributes:
        stopped: the reference is of a kind whose values have no derivative.
    """

    def __init__(self, value: Any, stopped: bool = False) -> None:
        self.stopped = stopped
        self.write(value)

    def write(self, value: Any) -> None:
        self.value = lax.stop_gradient(value) if self.stopped else value

    def copy(self, value: Any) -> _Cell:
        """The same reference inside another program, where it holds this value."""
        return _Cell(value, self.stopped)


def _run(program: Any, inputs: Sequence[Any], captured: Mapping[Any, _Cell] | None = None) -> list[Any]:
    """Run a program, some of whose inputs may be cells; `captured` are the cells of captured references."""
    jaxpr = getattr(program, "jaxpr", program)
    env: dict[Any, Any] = dict(zip(jaxpr.constvars, getattr(program, "consts", ()), strict=True))
    env.update(captured or {})
    env.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Any:
        return _typed(atom.val, atom.aval) if isinstance(atom, Literal) else env[atom]

    for eqn in jaxpr.eqns:
        with at_line_of(eqn.source_info):
            results = _results(eqn, [read(a) for a in eqn.invars])
        env.update(zip(eqn.outvars, results, strict=True))
    return [read(a) for a in jaxpr.outvars]


def _results(eqn: JaxprEqn, values: Sequence[Any]) -> Sequence[Any]:
    name = eqn.primitive.name
    if name in _OPERATIONS:
        return [_typed(y, v.aval) for y, v in zip(_OPERATIONS[name](eqn, *values), eqn.outvars, strict=True)]
    if not any(isinstance(v, _Cell) for v in values):
        params = _with_pure_programs(eqn.params) if _makes_references(eqn) else eqn.params
        return apply(Operation(eqn.primitive, (), (), params, eqn.source_info, eqn.ctx), values)
    if (called := called_program(eqn.primitive, eqn.params)) is not None:
        return _run(called, values)
    if name not in _CONTROL:
        raise ReferenceTypeError(user_line(eqn.source_info), f"that is given to {name}")
    return [_typed(y, v.aval) for y, v in zip(_CONTROL[name](eqn.params, values), eqn.outvars, strict=True)]


def _typed(value: Any, aval: Any) -> Any:
    """The value with the dtype and weak type of the aval; cells as they are."""
    dtype = getattr(aval, "dtype", None)
    if isinstance(value, _Cell) or dtype is None or jnp.issubdtype(dtype, dtypes.extended):
        return value
    value, weak = jnp.asarray(value, dtype), getattr(aval, "weak_type", False)
    if getattr(value, "weak_type", False) == weak:
        return value
    return cast(Array, primitives.convert_element_type_p.bind(value, new_dtype=dtype, weak_type=weak, sharding=None))


def _with_pure_programs(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of an operation that is given no reference, whose programs make some."""

    def pure(value: Any) -> Any:
        container = cast(Any, type(value))
        if isinstance(value, (tuple, list)):
            entries = cast(Sequence[Any], value)
            return container(map(pure, entries)) if any(isinstance(v, PROGRAMS) for v in entries) else entries
        if not isinstance(value, PROGRAMS) or not _makes_references(value):
            return value
        program = _without(value)
        return program if isinstance(value, ClosedJaxpr) else program.jaxpr

    return {name: pure(value) for name, value in params.items()}


def _held_aval(eqn: JaxprEqn) -> Any:
    """The type of the values that the operation's new reference holds."""
    aval: Any = eqn.outvars[0].aval
    return aval.inner_aval


def _new(eqn: JaxprEqn, value: Any) -> list[Any]:
    inner = _held_aval(eqn)
    return [_Cell(_typed(value, inner), has_no_derivative(eqn.outvars[0].aval))]


def _empty(eqn: JaxprEqn) -> list[Any]:
    inner = _held_aval(eqn)
    return [_Cell(jnp.zeros(inner.shape, inner.dtype))]


def _views(eqn: JaxprEqn, leaves: Sequence[Any]) -> Sequence[Any]:
    return jax.tree.unflatten(eqn.params["tree"], leaves)


def _get(eqn: JaxprEqn, cell: _Cell, *leaves: Any) -> list[Any]:
    return [read_at(cell.value, _views(eqn, leaves))]


def _swap(eqn: JaxprEqn, cell: _Cell, value: Any, *leaves: Any) -> list[Any]:
    views = _views(eqn, leaves)
    old = read_at(cell.value, views)
    cell.write(written_at(cell.value, views, value))
    return [old]


def _add(eqn: JaxprEqn, cell: _Cell, value: Any, *leaves: Any) -> list[Any]:
    cell.write(written_at(cell.value, _views(eqn, leaves), value, add=True))
    return []


def _freeze(eqn: JaxprEqn, cell: _Cell) -> list[Any]:
    return [cell.value]


def _free(eqn: JaxprEqn, cell: _Cell) -> list[Any]:
    return []


_OPERATIONS: dict[str, Callable[..., list[Any]]] = {
    "new_ref": _new,
    "empty_ref": _empty,
    "get": _get,
    "swap": _swap,
    "addupdate": _add,
    "freeze": _freeze,
    "free_ref": _free,
}


class _Held:
    """The references among the operands of an operation, each once, and its programs as functions of their values."""

    def __init__(self, operands: Sequence[Any]) -> None:
        self.operands = operands
        self.cells = list(dict.fromkeys(v for v in operands if isinstance(v, _Cell)))

    @property
    def values(self) -> list[Any]:
        return [cell.value for cell in self.cells]

    def inside(self, values: Sequence[Any]) -> list[_Cell]:
        return [cell.copy(value) for cell, value in zip(self.cells, values, strict=True)]

    def operands_with(self, cells: Sequence[_Cell], operands: Sequence[Any]) -> list[Any]:
        """Operands with the cells of a program inside for those outside."""
        table = dict(zip(self.cells, cells, strict=True))
        return [table[v] if isinstance(v, _Cell) else v for v in operands]

    def write(self, values: Sequence[Any]) -> None:
        for cell, value in zip(self.cells, values, strict=True):
            cell.write(value)


def _cond(params: Mapping[str, Any], operands: Sequence[Any]) -> list[Any]:
    """Each branch takes and returns the values of the references."""
    index, *operands = operands
    held = _Held(operands)

    def branch(program: Any) -> Callable[..., Any]:
        def run(values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
            cells = held.inside(values)
            outputs = _run(program, held.operands_with(cells, operands))
            return outputs, [cell.value for cell in cells]

        return run

    outputs, values = branched(params, index, [branch(b) for b in params["branches"]], held.values)
    held.write(values)
    return outputs


def _while(params: Mapping[str, Any], operands: Sequence[Any]) -> list[Any]:
    """The values of the references that the condition or the body reads or writes are carried."""
    n, m = params["cond_nconsts"], params["body_nconsts"]
    held = _Held(operands)

    def goes_on(state: Any) -> Any:
        values, carry = state
        return _run(params["cond_jaxpr"], [*held.operands_with(held.inside(values), operands[:n]), *carry])[0]

    def body(state: Any) -> Any:
        values, carry = state
        cells = held.inside(values)
        carry = _run(params["body_jaxpr"], [*held.operands_with(cells, operands[n : n + m]), *carry])
        return [cell.value for cell in cells], carry

    values, carry = lax.while_loop(goes_on, body, (held.values, list(operands[n + m :])))
    held.write(values)
    return carry


def _scan(params: Mapping[str, Any], operands: Sequence[Any]) -> list[Any]:
    """The values of references are carried; one whose rows are scanned over gets its new rows as they are made."""
    n, c = scan_counts(params)
    held, stacked = _Held(operands[: n + c]), operands[n + c :]
    rows = [i for i, v in enumerate(stacked) if isinstance(v, _Cell)]

    def step(state: Any, xs: Any) -> Any:
        values, carry = state
        cells = held.inside(values)
        row_cells = {i: stacked[i].copy(xs[i]) for i in rows}
        inputs = [*held.operands_with(cells, operands[:n]), *carry, *(row_cells.get(i, x) for i, x in enumerate(xs))]
        outputs = _run(params["jaxpr"], inputs)
        written = [cell.value for cell in row_cells.values()]
        return ([cell.value for cell in cells], outputs[:c]), (outputs[c:], written)

    xs = [v.value if isinstance(v, _Cell) else v for v in stacked]
    options = {k: params[k] for k in ("length", "reverse", "unroll")}
    (values, carry), (ys, written) = lax.scan(step, (held.values, list(operands[n : n + c])), xs, **options)
    held.write(values)
    for i, value in zip(rows, written, strict=True):
        stacked[i].write(value)
    return [*carry, *ys]


_CONTROL: dict[str, Callable[[Mapping[str, Any], Sequence[Any]], list[Any]]] = {
    "cond": _cond,
    "while": _while,
    "scan": _scan,
}
