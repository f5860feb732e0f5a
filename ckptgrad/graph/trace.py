# pyright: reportUnknownMemberType=false
"""From a JAX function to a Graph: `jax.make_jaxpr`, with nested jits inlined.

Inlined: what only calls a program (`compat.CALLS`), such as `jit`, `composite` and `jax.checkpoint` (the plan decides what
is kept).  Kept as one operation with subgraphs: `scan`, `while`, `cond`, `custom_jvp_call`, `custom_vjp_call` and whatever
else holds a program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from ckptgrad.compat import as_plain, called_program
from ckptgrad.graph.effects import side_effects
from ckptgrad.graph.graph import Atom, Constant, Graph, Operation, Variable
from ckptgrad.graph.naming import standing_for
from ckptgrad.graph.own_rows import on_own_rows
from ckptgrad.graph.references import without_references
from ckptgrad.graph.source import has_own_line, inside_call
from ckptgrad.graph.stack_depth import deep_stack
from ckptgrad.graph.static_arguments import split_call
from ckptgrad.graph.uncollected import uncollected

# The name of a jit whose body is one stage of a chain (see `chain.marks`).
STAGE_NAME = "ckptgrad_stage"
# The name of a jit that isolates one stage in a compiled program (see `execution.isolated`).
ISOLATED_NAME = "ckptgrad_isolated"


def trace(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Graph:
    """Trace a JAX function into a Graph.

    Args:
        fun: any function that `jax.make_jaxpr` accepts.
        *args, **kwargs: example arguments (arrays, ShapeDtypeStructs or tracers; pytrees).

    Returns:
        A Graph whose inputs and outputs are the flattened leaves, in JAX's pytree order; what is neither an
        array nor a number among the arguments (flags, functions, settings) reaches `fun` as it is.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> graph = cg.trace(lambda p: jnp.sum(p["w"] * p["b"]), {"w": jnp.ones(3), "b": 2.0})
        >>> [float(y) for y in graph(2.0, jnp.ones(3))]  # b before w
        [6.0]
    """
    split = split_call(fun, args, kwargs, numbers=True)
    with deep_stack():
        return from_jaxpr(jax.make_jaxpr(standing_for(fun, split.fun))(*split.args, **split.kwargs))


@uncollected()
def from_jaxpr(closed: ClosedJaxpr) -> Graph:
    """The Graph of a closed jaxpr; its captured constants become `Graph.constants`, mutable references are taken apart."""
    closed = without_references(closed)
    builder = _Builder()
    inputs = [Variable(v.aval) for v in closed.jaxpr.invars]
    consts = [builder.constant(c, v.aval) for c, v in zip(closed.consts, closed.jaxpr.constvars, strict=True)]
    outputs = builder.inline(closed.jaxpr, consts, inputs)
    return Graph(inputs, outputs, builder.operations, builder.constants, builder.marks)


class _Builder:
    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.constants: dict[Variable, Any] = {}
        self.marks: list[tuple[int, int]] = []
        self._by_identity: dict[int, Variable] = {}
        self._makers: dict[Variable, Operation] = {}
        # By identity of equations: one of a jitted function is met at each of its calls.
        self._own_lines: dict[int, tuple[JaxprEqn, bool]] = {}

    def _append(self, operations: Sequence[Operation]) -> None:
        self.operations += operations
        self._makers.update((v, op) for op in operations for v in op.outputs)

    def constant(self, value: Any, aval: Any) -> Variable:
        """One variable for each captured object, however often it is captured."""
        variable = self._by_identity.get(id(value))
        if variable is None:
            variable = self._by_identity[id(value)] = Variable(aval)
            self.constants[variable] = value
        return variable

    def inline(self, jaxpr: Jaxpr, consts: Sequence[Atom], inputs: Sequence[Atom]) -> list[Atom]:
        """Append the operations of a program, those of nested calls among them; return its results.

        With a stack of its own: calls may be nested deeper than Python's stack.
        """
        frames = [_Frame(jaxpr, consts, inputs)]
        while True:
            frame = frames[-1]
            eqn = next(frame.rest, None)
            if eqn is None:
                results = [frame.read(a) for a in frame.jaxpr.outvars]
                frames.pop()
                if not frames:
                    return results
                frames[-1].env.update(zip(frame.call.outvars, results, strict=True))
                if str(frame.call.params.get("name", "")).startswith(STAGE_NAME):
                    self.marks.append((frame.start, len(self.operations)))
                continue
            args = [frame.read(a) for a in eqn.invars]
            if frame.whole and eqn.primitive.name == "optimization_barrier":
                frame.env.update(zip(eqn.outvars, args, strict=True))
            elif (called := called_program(eqn.primitive, eqn.params)) is not None:
                frames.append(self._called(frame, eqn, called, args))
            else:
                outs = [Variable(v.aval) for v in eqn.outvars]
                primitive, params = as_plain(eqn.primitive, eqn.params)
                source = self._source_of(eqn, frame)
                op = Operation(primitive, args, outs, params, source, eqn.ctx, side_effects(eqn))
                self._append(on_own_rows(op, self._makers, self.constants))
                frame.env.update(zip(eqn.outvars, outs, strict=True))

    def _called(self, outer: _Frame, eqn: JaxprEqn, inner: Any, args: Sequence[Atom]) -> _Frame:
        """The program of a call, about to be inlined."""
        consts: list[Atom] = []
        if isinstance(inner, ClosedJaxpr):
            consts = [self.constant(c, v.aval) for c, v in zip(inner.consts, inner.jaxpr.constvars, strict=True)]
            inner = inner.jaxpr
        return _Frame(inner, consts, args, eqn, len(self.operations), self._source_of(eqn, outer))

    def _source_of(self, eqn: JaxprEqn, frame: _Frame) -> Any:
        """Where an equation of a program comes from."""
        if frame.called_at is None:
            return eqn.source_info
        if id(eqn) not in self._own_lines:
            self._own_lines[id(eqn)] = eqn, has_own_line(eqn.source_info)
        return inside_call(eqn.source_info, frame.called_at, self._own_lines[id(eqn)][1])


class _Frame:
    """A program that is being inlined: the atoms of its variables, the equations that are left, and the call of it.

    Attributes:
        start: the number of operations before it.
        called_at: where the call comes from.
        whole: whether it isolates a stage by barriers; these are for the compiler, so they are not traced.
    """

    def __init__(
        self,
        jaxpr: Jaxpr,
        consts: Sequence[Atom],
        inputs: Sequence[Atom],
        call: Any = None,
        start: int = 0,
        called_at: Any = None,
    ) -> None:
        self.jaxpr, self.call, self.start, self.called_at = jaxpr, call, start, called_at
        self.rest = iter(jaxpr.eqns)
        self.env: dict[Any, Atom] = dict(zip(jaxpr.constvars, consts, strict=True))
        self.env.update(zip(jaxpr.invars, inputs, strict=True))
        self.whole = call is not None and str(call.params.get("name", "")).startswith(ISOLATED_NAME)

    def read(self, atom: Any) -> Atom:
        return Constant(atom.val, atom.aval) if isinstance(atom, Literal) else self.env[atom]
