"""From a JAX function to a Graph: `jax.make_jaxpr`, with nested jits inlined.

Inlined: `jit`, `closed_call`, `composite` and `jax.checkpoint` (the plan decides what is kept).  Kept as one
operation with subgraphs: `scan`, `while`, `cond`, `custom_jvp_call`, `custom_vjp_call` and whatever
else carries a jaxpr.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jax.sharding import AxisType, PartitionSpec

from ckptgrad.compat import as_plain, called_program, names_axis
from ckptgrad.graph.depth import deep_stack
from ckptgrad.graph.graph import Atom, Constant, Graph, Operation, Variable
from ckptgrad.graph.naming import standing_for
from ckptgrad.graph.static import split_call

# The name of a jit whose body is one stage of a chain (see `chain.marks`).
STAGE_NAME = "ckptgrad_stage"
# The name of a jit that keeps one stage apart in a compiled program (see `execution.isolated`).
APART_NAME = "ckptgrad_apart"


def trace(fun: Callable, *args: Any, **kwargs: Any) -> Graph:
    """Trace a JAX function into a Graph.

    Args:
        fun: any function that `jax.make_jaxpr` accepts.
        *args, **kwargs: example arguments (arrays, ShapeDtypeStructs or tracers; pytrees).

    Returns:
        A Graph whose inputs and outputs are the flattened leaves, in JAX's pytree order; what is no array and no number
        among the arguments (flags, functions, settings) reaches `fun` as it is.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> graph = cg.trace(lambda p: jnp.sum(p["w"] * p["b"]), {"w": jnp.ones(3), "b": 2.0})
        >>> [float(y) for y in graph(2.0, jnp.ones(3))]  # b before w
        [6.0]
    """
    split = split_call(fun, args, kwargs, numbers=True)
    with deep_stack():
        return from_jaxpr(jax.make_jaxpr(standing_for(fun, split.fun))(*split.args, **split.kwargs))


def from_jaxpr(closed: ClosedJaxpr) -> Graph:
    """The Graph of a closed jaxpr; its captured constants become `Graph.constants`, mutable references are taken apart."""
    from ckptgrad.graph.references import without_references  # which traces, by what this module knows of types

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
                frames.append(self._called(eqn, called, args))
            else:
                outs = [Variable(v.aval) for v in eqn.outvars]
                primitive, params = as_plain(eqn.primitive, eqn.params)
                self.operations.append(
                    Operation(primitive, args, outs, params, eqn.source_info, eqn.ctx, _side_effects(eqn))
                )
                frame.env.update(zip(eqn.outvars, outs, strict=True))

    def _called(self, eqn: Any, inner: Any, args: Sequence[Atom]) -> _Frame:
        """The program of a call, about to be inlined."""
        consts = []
        if isinstance(inner, ClosedJaxpr):
            consts = [self.constant(c, v.aval) for c, v in zip(inner.consts, inner.jaxpr.constvars, strict=True)]
            inner = inner.jaxpr
        return _Frame(inner, consts, args, eqn, len(self.operations))


class _Frame:
    """A program that is being inlined: what its variables are, the equations that are left, and the call that it is of.

    Attributes:
        start: how many operations came before it.
        whole: it keeps a stage apart by barriers, which are for the compiler, not for derivatives.
    """

    def __init__(self, jaxpr: Jaxpr, consts: Sequence[Atom], inputs: Sequence[Atom], call: Any = None, start: int = 0):
        self.jaxpr, self.call, self.start = jaxpr, call, start
        self.rest = iter(jaxpr.eqns)
        self.env: dict[Any, Atom] = dict(zip(jaxpr.constvars, consts, strict=True))
        self.env.update(zip(jaxpr.invars, inputs, strict=True))
        self.whole = call is not None and str(call.params.get("name", "")).startswith(APART_NAME)

    def read(self, atom: Any) -> Atom:
        return Constant(atom.val, atom.aval) if isinstance(atom, Literal) else self.env[atom]


def _side_effects(eqn: Any) -> frozenset:
    """The effects of an equation; that a collective names an axis is none, it may be done again."""
    return frozenset(effect for effect in eqn.effects if not names_axis(effect))


def struct(aval: Any) -> Any:
    """What `jax.make_jaxpr` takes for an abstract value."""
    if not hasattr(aval, "shape"):
        return lax.create_token()  # no struct stands for one
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=getattr(aval, "weak_type", False), **_varying(aval))


def _varying(aval: Any) -> dict[str, Any]:
    """How the value is spread over a mesh, where its type says so."""
    kind = getattr(aval, "manual_axis_type", None)
    if kind:
        return {"manual_axis_type": kind, "sharding": aval.sharding}
    sharding = explicit_sharding(aval)
    return {"sharding": sharding} if sharding is not None else {}


def explicit_sharding(aval: Any) -> Any:
    """The sharding that is part of the value's type, under a mesh with explicit axes; else None."""
    sharding = getattr(aval, "sharding", None)
    mesh = getattr(sharding, "mesh", None)
    return sharding if mesh is not None and AxisType.Explicit in mesh.axis_types else None


def is_manual(aval: Any) -> bool:
    """Whether a value is one device's share, inside a `shard_map`."""
    mesh = getattr(getattr(aval, "sharding", None), "mesh", None)
    return mesh is not None and AxisType.Manual in mesh.axis_types


def manual_axes(aval: Any, how: str) -> tuple[Any, ...]:
    """The axes of a mesh along which a value is "varying", "reduced" or "unreduced", inside a typed `shard_map`."""
    return tuple(sorted(getattr(getattr(aval, "manual_axis_type", None), how, ())))


def varying_axes(aval: Any) -> tuple[Any, ...]:
    """The axes of a mesh along which a value varies, inside a typed `shard_map`."""
    return manual_axes(aval, "varying")


def cotangent_type(aval: Any) -> Any:
    """The abstract value of a cotangent: of what is reduced over an axis it is unreduced, and the other way round."""
    sums = any(manual_axes(aval, how) or getattr(_spec(aval), how, None) for how in ("reduced", "unreduced"))
    return aval.to_ct_aval() if sums else aval


def _spec(aval: Any) -> Any:
    return getattr(getattr(aval, "sharding", None), "spec", None)


def partitions(spec: Any) -> tuple[Any, ...]:
    """The mesh axes of each array axis, of a specification that may say of others that values are reduced over them."""
    return tuple(getattr(spec, "partitions", spec))


def cotangent_spec(spec: Any) -> Any:
    """The specification of a cotangent: what is reduced over a mesh axis has unreduced ones, and the other way round."""
    reduced, unreduced = (frozenset(getattr(spec, how, None) or ()) for how in ("reduced", "unreduced"))
    return PartitionSpec(*partitions(spec), reduced=unreduced, unreduced=reduced) if reduced or unreduced else spec


def cotangent_struct(aval: Any) -> Any:
    """The struct of a cotangent: strongly typed."""
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, **_varying(cotangent_type(aval)))


def filled(aval: Any, number: Any = 0) -> Any:
    """An array of one number, of the type of an abstract value: sharded and varying as that is."""
    value = lax.full(aval.shape, number, aval.dtype, sharding=explicit_sharding(aval))
    unreduced = manual_axes(aval, "unreduced")
    # Only what varies can become unreduced.
    for axes, kind in (
        ((*varying_axes(aval), *unreduced), "varying"),
        (unreduced, "unreduced"),
        (manual_axes(aval, "reduced"), "reduced"),
    ):
        value = lax.pcast(value, axes, to=kind) if axes else value
    return value


def as_cotangent(value: Any, aval: Any) -> Any:
    """A cotangent typed as that of a value must be: one that varies further was spread by a broadcast, and is summed."""
    has, wanted = set(varying_axes(jax.typeof(value))), set(varying_axes(cotangent_type(aval)))
    if has == wanted:
        return value
    value = lax.psum(value, tuple(sorted(has - wanted))) if has - wanted else value
    return lax.pcast(value, tuple(sorted(wanted - has)), to="varying") if wanted - has else value
