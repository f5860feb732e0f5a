"""Traces a call: as a jaxpr, a graph or a chain; and turns the program's results back into the function's pytrees."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes
from jax.extend.core import ClosedJaxpr

from ckptgrad.autodiff.reach import reached
from ckptgrad.chain.blocks import cuts_for_chunks
from ckptgrad.chain.cut import find_cuts
from ckptgrad.chain.cutting import Cutting
from ckptgrad.chain.laid_out import lay_out_graph
from ckptgrad.chain.late import made_late
from ckptgrad.chain.program import Program, build_program
from ckptgrad.chain.runs import cuts_of_runs
from ckptgrad.chain.shard_maps.split import split_shard_maps
from ckptgrad.costs.blocks import block_program
from ckptgrad.doors.calling import Call
from ckptgrad.doors.captured import check_nothing_is_captured, trace_of_any
from ckptgrad.doors.leaves import NUMBERS, float0_zeros, has_gradient
from ckptgrad.doors.outputs import check_are_arrays, check_scalar, output_and_aux
from ckptgrad.doors.placing import Shardings, leaf_shardings
from ckptgrad.doors.taken_apart import warn_of_checkpoints
from ckptgrad.doors.unseen import check_is_seen, unseen_devices
from ckptgrad.errors import GradientTypeError, ReferenceTypeError
from ckptgrad.execution.step_planner import completed
from ckptgrad.graph.evaluate import like_aval
from ckptgrad.graph.graph import Atom, Constant, Graph, Variable, aval_bytes
from ckptgrad.graph.naming import standing_for, title
from ckptgrad.graph.references import is_reference, opened
from ckptgrad.graph.stack_depth import deep_stack
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.graph.uncollected import uncollected
from ckptgrad.request import Request
from ckptgrad.target.target import Target

_IN_PROGRAM = object()


@dataclass(frozen=True)
class Returned:
    """The structure of what a function returned while it was traced.

    Attributes:
        tree, aux_tree: of the output and of aux.
        aux_leaves: the leaves of aux that are not results of the program.
        references: those from outside that the function wrote; what it left in them are the last results of the program.
        reads_references: whether there are any from outside, which were read when the call was traced.
        trace: in which the function ran.
    """

    tree: Any
    aux_tree: Any
    aux_leaves: tuple[Any, ...]
    references: tuple[Any, ...] = ()
    reads_references: bool = False
    trace: weakref.ref[Any] | None = None

    @property
    def count(self) -> int:
        """The number of leaves of the output, which are the first results of the program."""
        return self.tree.num_leaves

    @property
    def untraced_bytes(self) -> int:
        """Bytes of the numbers and NumPy arrays in aux, which a program around the call returns as arrays."""
        numbers = (x for x in self.aux_leaves if isinstance(x, (bool, int, float, complex, np.ndarray, np.generic)))
        return sum(aval_bytes(jax.typeof(x)) for x in numbers)

    def restore(self, results: Sequence[Any]) -> tuple[Any, Any]:
        """(output, aux) from the results of the program; what it left in references is written to them."""
        rest = iter(results[self.count :])
        aux = [next(rest) if x is _IN_PROGRAM else x for x in self.aux_leaves]
        for reference, value in zip(self.references, rest, strict=True):
            reference[...] = value
        return jax.tree.unflatten(self.tree, results[: self.count]), jax.tree.unflatten(self.aux_tree, aux)

    def check_compiled(self, fun: Callable) -> None:
        """Reject aux that a compiled program cannot return.

        Raises:
            GradientTypeError: naming what is neither an array nor a number.
        """
        for leaf in self.aux_leaves:
            if leaf is not _IN_PROGRAM and not isinstance(leaf, (*NUMBERS, np.ndarray)):
                raise GradientTypeError(
                    f"{leaf!r} of type {type(leaf)} is not a valid JAX type: aux of {title(fun)} holds it, but a compiled "
                    f"gradient returns only arrays and numbers; leave it out there, or call the gradient without compile"
                )


def trace_program(
    call: Call, has_aux: bool = False, check: Callable[[Any], None] | None = None
) -> tuple[ClosedJaxpr, Returned]:
    """Trace a call, from the leaves of its arguments to those of the output, then of aux.

    Args:
        call: the call.
        has_aux: whether the function returns (output, aux).
        check: given the output, rejects what the caller has no use for.

    Raises:
        GradientTypeError: the function returns no pair although `has_aux` is set, or something that is not an array.
    """
    returned: list[Returned] = []

    def traced(*args: Any, **kwargs: Any) -> list[Any]:
        out, aux = call.fun(*args, **kwargs), None
        if has_aux:
            out, aux = output_and_aux(out, call.original)
        if check is not None:
            check(out)
        check_are_arrays(out, call.original)
        leaves, tree = jax.tree.flatten(out)
        aux_leaves, aux_tree = jax.tree.flatten(aux)
        kept = tuple(_IN_PROGRAM if isinstance(x, jax.Array) else x for x in aux_leaves)
        returned[:] = [Returned(tree, aux_tree, kept, trace=trace_of_any(jax.tree.leaves((args, kwargs))))]
        return [*leaves, *(x for x in aux_leaves if isinstance(x, jax.Array))]

    with deep_stack():
        program = jax.make_jaxpr(standing_for(call.original, traced, call.parameters))(*call.args, **call.kwargs)
    return program, returned[0]


@dataclass(frozen=True)
class Traced:
    """A traced call as a graph, from the leaves of the call.

    Attributes:
        returned: what the outputs of the graph become.
        has_aux: whether the function returns (output, aux).
    """

    call: Call
    graph: Graph
    returned: Returned
    has_aux: bool

    @property
    def outputs(self) -> tuple[Atom, ...]:
        """The leaves of the output, without aux."""
        return self.graph.outputs[: self.returned.count]

    def restore(self, values: Sequence[Any]) -> tuple[Any, Any]:
        """(output, aux) as pytrees, from the values of the graph's outputs."""
        return self.returned.restore([_typed(x, a) for x, a in zip(values, self.graph.outputs, strict=True)])


def _typed(value: Any, atom: Atom) -> Any:
    """The value of an output as an array of its type; that of a constant may be a number."""
    return like_aval(jnp.asarray(value, atom.aval.dtype) if isinstance(atom, Constant) else value, atom.aval)


def trace_graph(call: Call, has_aux: bool, check: Callable[[Any], None] | None = None, planned: bool = False) -> Traced:
    """As `trace_program`, as a graph.  The references that it captures are read now, and written by `restore`.

    Of a call that is to be `planned` it is said if that takes a `jax.checkpoint` apart.

    Raises:
        GradientTypeError: as from `trace_program`.
        ReferenceTypeError: a reference from outside is differentiated, or given what depends on differentiated arguments.
    """
    program, returned = trace_program(call, has_aux, check)
    if planned:
        warn_of_checkpoints(call.original, program)
    with deep_stack():
        captures = any(map(is_reference, program.jaxpr.constvars))
        program, references = opened(program)
        graph = from_jaxpr(program)
    if references:
        _check_references(call, graph, references)
    returned = replace(returned, references=tuple(references), reads_references=captures)
    return Traced(call, graph, returned, has_aux)


def _check_references(call: Call, graph: Graph, references: Sequence[Any]) -> None:
    """Reject a differentiated value in a reference from outside, as JAX does: its derivative would be lost."""
    depends = reached(graph, [k in call.selected for k in range(len(graph.inputs))])
    for reference, differentiated in zip(references, depends[-len(references) :], strict=True):
        if differentiated:
            kind = jax.typeof(reference)
            raise ReferenceTypeError(
                problem=f"performing a set/swap operation with a differentiated value on a non-differentiated array "
                f"reference of type {kind}, which {title(call.original)} does to one from outside"
            )


@dataclass(frozen=True)
class TracedChain(Traced):
    """A traced call as a chain of stages.

    Attributes:
        program: the chain.
        differentiated: positions of the leaves that have a gradient; the other selected ones get float0 zeros.
        shardings: how the leaves of the call lie over several devices.
        cutting: how it was asked to be cut.
        devices: over how many devices it runs, whether it is known how its values lie on these or not.
        in_parts: whether a `shard_map` of it was taken apart.
    """

    program: Program
    differentiated: tuple[int, ...]
    shardings: Shardings
    cutting: Cutting = Cutting.FINEST
    devices: int = 1
    in_parts: bool = False

    def gradients(self, gradients: Sequence[Any]) -> tuple[Any, ...]:
        """Gradients as pytrees, one per argnum, from those of the leaves that have one."""
        of_leaf = dict(zip(self.differentiated, gradients, strict=True))
        leaves = self.call.leaves
        filled = [of_leaf[k] if k in of_leaf else float0_zeros(leaves[k]) for k in self.call.selected]
        return jax.tree.unflatten(self.call.primals_tree, filled)

    def without_arrays(self) -> TracedChain:
        """The same with structs in place of the arrays of the call, so that it does not keep these."""

        def abstract(x: Any) -> Any:
            known = isinstance(x, (jax.Array, np.ndarray))
            return jax.ShapeDtypeStruct(x.shape, x.dtype) if known else x

        args, kwargs = jax.tree.map(abstract, (self.call.args, self.call.kwargs))
        call = replace(self.call, args=args, kwargs=kwargs)
        return replace(self, call=call)


def _in_parts(traced: Traced, request: Request, target: Target) -> Traced:
    """The same with each `shard_map` taken apart, where something in it may be repeated.

    A schedule, or a plan that was saved, may be for it as it is.
    """
    if request.budget is None and request.policy == "optimal":
        return traced
    given = request.given_stages
    if given is not None and given == len(find_cuts(made_late(traced.graph), target)) + 1:
        return traced
    return replace(traced, graph=split_shard_maps(traced.graph, target))


@uncollected()
def trace_chain(
    call: Call,
    request: Request,
    *,
    scalar: bool = False,
    shardings: Shardings | None = None,
    cutting: Cutting = Cutting.FINEST,
) -> TracedChain:
    """Trace a call and cut it into a chain.

    Args:
        call: the call.
        request: says whether there is aux, which gets no cotangent, and what stages may keep.
        scalar: whether the output must be a real scalar (a complex one for a holomorphic function).
        shardings: those of the leaves; None: as the request or the leaves themselves say.
        cutting: how to cut it.

    Raises:
        OptionError: as from `leaf_shardings` and `check_is_seen`.
        GradientTypeError: the output is not what `has_aux` or `scalar` ask for.
        NoDerivativeError: as from `check_nothing_is_captured`.
    """

    def check(out: Any) -> None:
        check_scalar(out, call.original, request.holomorphic)

    request = completed(request)
    target = request.compiled_for
    traced = trace_graph(call, request.has_aux, check if scalar else None, planned=True)
    parts = traced if cutting is Cutting.MAPS else _in_parts(traced, request, target)
    graph, returned = made_late(parts.graph), traced.returned
    seeds = [a for a in parts.outputs if dtypes.issubdtype(a.aval.dtype, jnp.inexact)]
    differentiated = tuple(k for k in call.selected if has_gradient(call.leaves[k]))
    wrt = [graph.inputs[k] for k in differentiated]
    placed = leaf_shardings(call, request) if shardings is None else shardings
    unseen = 1
    if shardings is None and request.shardings is None and not any(placed):
        check_is_seen(call, graph, request)
        unseen = unseen_devices(call, graph)
    lay_out_graph(graph, placed)
    saveable, encodings = request.may_keep, request.kept_as
    program: Program | None = None
    if cutting in (Cutting.CHUNKED, Cutting.RUNS):
        program = _over_chunks(call, request, graph, wrt, seeds, cutting)
    elif cutting is Cutting.BLOCKS:
        program = block_program(graph, wrt, seeds, target, saveable, encodings)
    program = program or build_program(graph, wrt, seeds, target, saveable=saveable, encodings=encodings)
    check_nothing_is_captured(program, returned.trace)
    program = _named(program, call, returned)
    devices = max(unseen, program.devices)
    in_parts = parts.graph is not traced.graph
    return TracedChain(call, graph, returned, request.has_aux, program, differentiated, placed, cutting, devices, in_parts)


def with_stages_in_runs(chain: TracedChain, request: Request) -> TracedChain | None:
    """A call that is cut into stages that may run over chunks, with runs of such stages as one; None where there are none
    for which that is worth looking at."""
    program, request = chain.program, completed(request)
    found = _over_chunks(chain.call, request, chain.graph, program.wrt, program.seeds, Cutting.RUNS, program)
    return found and replace(chain, program=_named(found, chain.call, chain.returned), cutting=Cutting.RUNS)


def _over_chunks(
    call: Call,
    request: Request,
    graph: Graph,
    wrt: Sequence[Variable],
    seeds: Sequence[Atom],
    cutting: Cutting,
    known: Program | None = None,
) -> Program | None:
    """The program with stages that may run over chunks; None where it has as many stages as the one that is known."""
    target = request.compiled_for
    cuts = cuts_for_chunks(graph, target)
    if cutting is Cutting.RUNS:
        cuts = cuts_of_runs(graph, target, cuts, wrt)
    if known is not None and len(known.stages) == len(cuts) + 1:
        return None
    whole = request.chunk_choice.whole_axes(call.names, [len(v.aval.shape) for v in graph.inputs])
    marked = {(graph.inputs[k], axis) for k, axes in whole.items() for axis in axes}
    return build_program(graph, wrt, seeds, target, cuts, request.may_keep, request.kept_as, chunked=True, whole=marked)


def _named(program: Program, call: Call, returned: Returned) -> Program:
    """A program that knows the user's names of its inputs, and what is returned besides its outputs."""
    return replace(
        program, untraced_bytes=returned.untraced_bytes, arguments=tuple(call.names), owners=tuple(call.argument_names)
    )
