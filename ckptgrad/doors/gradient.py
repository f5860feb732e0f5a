"""The doors `value_and_grad` and `grad`."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax

from ckptgrad.bytes import Budget
from ckptgrad.chain.cutting import Cutting, Ways
from ckptgrad.chain.program import Program
from ckptgrad.doors.calling import check_function, check_runs, make_call, split_arguments
from ckptgrad.doors.choosing import best_plan
from ckptgrad.doors.compiling import Cut, check_planned, compile_within
from ckptgrad.doors.inputs import check_inputs
from ckptgrad.doors.microbatched import Microbatching
from ckptgrad.doors.placing import Shardings
from ckptgrad.doors.staging import check_repeatable, runs_staged, staged_cut, with_runs
from ckptgrad.doors.tracing import TracedChain, trace_chain, with_stages_in_runs
from ckptgrad.doors.watching import tell
from ckptgrad.execution.certified import Certified
from ckptgrad.execution.interpreter import Execution, split_at_backward
from ckptgrad.execution.returned import lying_as_returned
from ckptgrad.graph.naming import name_of
from ckptgrad.graph.static_arguments import SplitCall
from ckptgrad.graph.value_types import cotangent_type, filled
from ckptgrad.planning.schedule import Schedule
from ckptgrad.request import Request
from ckptgrad.results.plan import Plan
from ckptgrad.target.named import TargetChoice


class GradientFunction:
    """A function that returns a value and its gradient under a memory budget.

    Made by `value_and_grad` and `grad`; call it like their JAX namesakes, inside or outside
    `jax.jit`, `jax.vmap` and further differentiation.
    """

    def __init__(
        self,
        fun: Callable,
        request: Request,
        *,
        with_value: bool,
        shardings: Shardings | None = None,
        cutting: Cutting = Cutting.FINEST,
    ) -> None:
        check_function(fun)
        self.fun, self.request, self.with_value = fun, request, with_value
        self._shardings, self._cutting = shardings, cutting
        functools.update_wrapper(self, fun, updated=())
        self.__name__ = name_of(fun)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        batches = self._microbatched.of(self, args, kwargs)
        if batches is not None:
            return batches.run()
        chains = self.chains(*args, **kwargs)
        check_runs(chains.finest.program.target, chains.finest.call.leaves)
        if runs_staged(chains.finest, self.request):
            call = chains.finest.call
            cuts = chains.map(partial(staged_cut, request=self.request, assembled=self.assembled))
            return with_runs(compile_within(cuts, self.request, call.args, call.kwargs))(*call.args, **call.kwargs)
        plan = best_plan(chains.map(program_of), self.request.as_one_program)
        tell(plan)
        return self.run_plan(chain_of_program(plan.program, chains), plan)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """A function in a class is a method."""
        return self if instance is None else types.MethodType(self, instance)

    def plan(self, *args: Any, **kwargs: Any) -> Plan:
        """What will be stored and recomputed for these arguments (arrays or ShapeDtypeStructs)."""
        batches = self._microbatched.of(self, args, kwargs)
        if batches is not None:
            return batches.plan()
        return best_plan(self.chains(*args, **kwargs).map(program_of), self.request)

    def compile(self, *args: Any, **kwargs: Any) -> Certified:
        """Compile for these arguments and certify the peak by XLA's own buffer assignment.

        With `costs="auto"` transients are taken from XLA's buffer assignment of each distinct stage, unless there are
        too many of these.  While the certified peak exceeds the budget, it plans again for fewer bytes than the budget;
        while bytes are left, for more.  A larger budget never gives a slower plan where XLA takes about what is predicted.
        On TPUs plans with whole blocks as stages are tried too, and the fastest is taken.  Where the fastest plan fits, its
        stages may be left open to each other: without a budget where that takes fewer bytes, and wherever it is faster.

        Processes that `jax.distributed` has joined compile together what lies on the devices of several of them: each must
        call this. All get the same plan, and its bytes are those of the fullest device.

        Returns:
            A callable with the attributes `plan`, `peak_bytes` and `temporary_bytes`.

        Raises:
            BudgetError: no plan is within the budget; carries the smallest feasible peak.
            ProcessesError: processes ask for different things, or one of them cannot go on.
            ScheduleError: the function is another one when it is traced again.
        """
        split = self.split(args, kwargs)
        make = partial(GradientFunction, split.fun, self.request, with_value=self.with_value)
        batches = self._microbatched.of(make(), split.args, split.kwargs)
        cuts = self._cuts(split) if batches is None else batches.cuts(make)
        request = self.request if cuts.finest.staged else self.request.as_one_program
        certified = compile_within(cuts, request, split.args, split.kwargs)
        if cuts.finest.staged:
            certified = with_runs(certified)
        if batches is not None:
            certified = replace(certified, plan=batches.described(certified.plan))
        return replace(certified, traced_parts=split.settings().traced_parts) if split.kept else certified

    def _cuts(self, split: SplitCall) -> Ways[Cut]:
        """The ways to cut the call, each with how a plan of it becomes a jitted function."""
        make = partial(GradientFunction, split.fun, self.request, with_value=self.with_value)
        chains = make().chains(*split.args, **split.kwargs)
        if runs_staged(chains.finest, self.request):
            check_repeatable(chains.finest)
            return chains.map(partial(staged_cut, request=self.request, assembled=self.assembled))

        def cut(chain: TracedChain) -> Cut:
            chain.returned.check_compiled(self.fun)
            # The tracers of the program that is compiled do not say how the arguments lie over devices.
            return Cut(chain.program, make(shardings=chain.shardings, cutting=chain.cutting)._jitted)

        return chains.map(cut)

    @property
    def _microbatched(self) -> Microbatching:
        return Microbatching(GradientFunction, self.request.microbatches)

    def split(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> SplitCall:
        """A call as a function of what is traced of its arguments, and these."""
        return split_arguments(self.fun, args, kwargs, self.request.argnums)

    def trace(self, *args: Any, **kwargs: Any) -> TracedChain:
        """The call as a chain of stages."""
        call = make_call(self.fun, args, kwargs, self.request.argnums)
        check_inputs(call, self.request.allow_int, self.request.holomorphic)
        chain = trace_chain(call, self.request, scalar=True, shardings=self._shardings, cutting=self._cutting)
        return replace(chain, program=replace(chain.program, staged=True)) if runs_staged(chain, self.request) else chain

    def chains(self, *args: Any, **kwargs: Any) -> Ways[TracedChain]:
        """The ways to cut the call into a chain of stages: as finely as it can be, with each `shard_map` whole and in parts;
        into whole blocks, where the target asks for these and there is a budget to plan for; into stages that may run over
        chunks, where there is a budget.

        A given schedule is for the one that has as many stages.
        """
        finest, policy = self.trace(*args, **kwargs), self.request.policy
        given = self.request.given_stages
        make = partial(GradientFunction, self.fun, self.request, with_value=self.with_value, shardings=self._shardings)
        # A plan that was saved may be one over chunks, whatever the budget.
        wanted = self.request.chunk_choice.considered and self.request.budget is not None and policy == "optimal"
        chunked: Callable[[], Sequence[TracedChain]] | None = None

        @functools.cache
        def over_chunks() -> list[TracedChain]:
            blocks = make(cutting=Cutting.CHUNKED).trace(*args, **kwargs)
            runs = with_stages_in_runs(blocks, self.request)
            return [blocks] if runs is None else [blocks, runs]

        if (wanted or not isinstance(policy, str)) and finest.program.devices == 1:
            chunked = over_chunks
        fine = [finest]
        if finest.in_parts and policy == "optimal" and not runs_staged(finest, self.request):
            # As it is without a budget: the fastest where that fits, and what shares of "store all" refer to.
            fine = [make(cutting=Cutting.MAPS).trace(*args, **kwargs), finest]
        wants = self.request.budget is not None if given is None else given != len(finest.program.stages)
        if not (wants and finest.program.target.platform.whole_blocks):
            return Ways(fine, chunked)
        blocks = make(cutting=Cutting.BLOCKS).trace(*args, **kwargs)
        count = len(blocks.program.stages)
        if given is not None:
            return Ways([blocks] if count == given else [finest], chunked)
        return Ways(fine if count == len(finest.program.stages) else [*fine, blocks], chunked)

    def chain_of(self, plan: Plan, *args: Any, **kwargs: Any) -> TracedChain:
        """The call as the chain that a plan of it is for."""
        return chain_of_program(plan.program, self.chains(*args, **kwargs))

    def _jitted(self, plan: Plan) -> Any:
        """The gradient by this plan, to be compiled."""

        def run(*args: Any, **kwargs: Any) -> Any:
            return self.run_plan(self.trace(*args, **kwargs), plan, alone=True)

        return jax.jit(run)

    def run_plan(self, traced: TracedChain, plan: Plan, alone: bool = False) -> Any:
        """What the caller gets, by a plan of the traced call; `alone`: as a program of its own, which nothing is part of."""
        program = traced.program
        check_planned(self.fun, plan, program)
        execution = Execution(program, traced.call.leaves, plan.isolation)
        forward, backward = split_at_backward(plan.schedule)
        execution.run(forward)
        execution.seed([filled(cotangent_type(v.aval), 1) for v in program.seeds])
        execution.run(backward)
        outputs = [execution.output(a) for a in traced.graph.outputs]
        gradients = [execution.gradient(v) for v in program.wrt]
        if alone and plan.fenced:
            outputs, gradients = lying_as_returned(program, outputs, gradients)
        return self.assembled(traced, gradients, outputs)

    def assembled(self, traced: TracedChain, gradients: Sequence[Any], outputs: Sequence[Any]) -> Any:
        """What the caller gets, from the gradients of the program's arguments and its outputs."""
        gradient = self.request.for_argnums(traced.gradients(gradients))
        value, aux = traced.restore(outputs)
        if self.with_value:
            return ((value, aux) if traced.has_aux else value), gradient
        return (gradient, aux) if traced.has_aux else gradient


def program_of(chain: TracedChain) -> Program:
    return chain.program


def chain_of_program(program: Program, chains: Ways[TracedChain]) -> TracedChain:
    """Of the ways to cut a call the one of a planned program; the first where there is none, which `check_planned` tells."""
    among = chains.chunked() if program.chunked and chains.chunked is not None else chains.whole
    count = len(program.stages)
    same = [chain for chain in among if chain.program is program] or [c for c in among if len(c.program.stages) == count]
    return [*same, among[0]][0]


def value_and_grad(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    budget: Budget = None,
    policy: str | Callable | Schedule = "optimal",
    saveable: str | Callable[..., Any] | None = None,
    costs: str = "auto",
    target: TargetChoice = None,
    shardings: Any = None,
    runtime: str = "compiled",
    progress: bool | Callable[[int, int], object] = False,
    tiers: Sequence[str] | str = (),
    encodings: Sequence[str] | str | None = "auto",
    chunks: bool | str | Sequence[str] = "auto",
    microbatches: int | str | None = None,
) -> GradientFunction:
    """A function that evaluates `fun` and its gradient, within a memory budget.

    A drop-in for `jax.value_and_grad`.

    Args:
        fun: a function that returns a scalar, or (scalar, aux) with `has_aux`.
        argnums: which positional arguments to differentiate with respect to.
        has_aux: whether `fun` returns a pair whose second entry is passed through.
        holomorphic: whether `fun` is promised to be holomorphic.
        allow_int: whether integer arguments are allowed; their gradient is float0 zeros.
        budget: bytes that the call may hold beyond its arguments, temporaries plus outputs: an
            int, "512MiB", "0.25x" (of what storing everything needs), "min", "auto" (what the
            device has free), or None for the fastest plan.
        policy: a policy's name, a function (costs, bytes) -> Schedule, or a Schedule.
        saveable: which values may be kept inside stages, as a predicate of `jax.checkpoint_policies`
            (`dots_saveable`, `save_only_these_names("mixed")` with `checkpoint_name` marks, ...), or its name as text:
            "dots_saveable", "save_only_these_names:mixed"; None: all.
        costs: how stages are judged: "estimate" from their operations, "compile" by XLA's buffer assignment
            of each distinct stage, "measure" with their times too (seconds, once; remembered on disk); "auto"
            asks XLA about all stages in `.compile`; while tracing it estimates, and where there is a budget it asks
            about the few programs of which no estimate is sure.
        target: what is planned and compiled for, as `ckptgrad.target` takes it: "h100", "v5e:2x2", a device, ...; None:
            the default device of this process.
        shardings: how the arguments lie over several devices, where that is not seen while tracing (`jax.jit` on a mesh with
            automatic axes): NamedShardings, a prefix of the positional arguments as in `in_shardings` of `jax.jit`. Bytes
            are those of one device.
        runtime: "compiled": one program. "staged": the actions of the plan run one by one from Python, each distinct stage
            compiled once, what is held certified and never exceeded; for chains of thousands of stages, which take minutes
            to compile as one program. Not inside `jax.jit` or `jax.vmap`, nor on several devices. "auto": staged where one
            program would take long to compile, and where it can be.
        progress: of a staged gradient: True for a bar, or a function of steps done and steps in total.
        tiers: of one program for a GPU or TPU: "host:64GiB" lets loops store as much in the host's memory ("auto": half of
            what is free here). Of a staged gradient with a budget: where boundaries are sent that the device has no room
            for, beside computation: "host:64GiB", "disk:/scratch:500GiB", several in a list, the first to be filled first;
            "auto" is a folder for temporary files. Files are checked when they are read, and removed when the gradient is
            there.
        encodings: forms in which values may be kept; the planner uses them where that is better. "auto": the exact ones,
            where there is a budget: masks, as of relu and dropout, as bits, with the same gradient. Beside these, one or
            several of "bfloat16", "int8" and "float8" keep numbers in two bytes or one: the gradient is inexact, which the
            plan says, and `validate` measures by how much. None, False or (): all is kept as it is.
            What is compared, divided by, used as an index or not a number of real floating point stays as it is.
        chunks: whether stages may run over chunks of an axis (examples, tokens, ...) where that keeps a budget, or is the
            faster way to: the axes are found, and proved to be independent. "auto": where some stage holds 1 MiB or more
            inside; True: whatever it holds; False: never, so that values are summed in the order of the function; "not axis
            1 of batch['tokens']", or several of these: as "auto", but not along such axes (plans name them so). Without a
            budget, in stages with loops to reverse and over several devices all run whole.
        microbatches: in how many parts of the batch the gradient is computed, one after the other, each by the same plan,
            with the same result to rounding; "auto": as many as give the best plan within the budget, which may be one. The
            loss must be proved to be a sum or mean over the entries of an axis of the arguments, and be returned alone.

    Returns:
        A function with the arguments of `fun` that returns (value, gradient), or
        ((value, aux), gradient); it also has `.plan(*args)` and `.compile(*args)`.

    Raises:
        BudgetFormatError, OptionError: at once, for a malformed budget or option.
        MissingExtraError: at once, where the compiler of the target is not installed.
        BudgetError: when called, for a budget below what is feasible.
        OptionError: when called, for an axis that stays whole and is none of an argument; for microbatches where the loss is
            not proved to be a sum, or their number does not divide its entries; for a budget in bytes where it is not known
            how tracers lie over several devices; in one of several processes for options by which each may plan differently,
            unless they plan together, in `.compile`.
        TierError: at once for malformed tiers; when called, for a tier that cannot be used or does not keep what it is sent.
        StagedError: when called with runtime="staged" inside a transformation, or for several devices.
        NotAttachedError: when called, and the target is not attached to this process.
        GradientTypeError: when called, for a non-scalar loss or arguments without gradient.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> value, grad = cg.value_and_grad(lambda x: jnp.sum(x**2))(jnp.arange(3.0))
        >>> [float(g) for g in grad]
        [0.0, 2.0, 4.0]
    """
    request = Request(
        argnums,
        has_aux,
        holomorphic,
        allow_int,
        budget,
        policy,
        saveable,
        costs,
        target,
        shardings,
        runtime,
        progress,
        encodings,
        tiers,
        chunks,
        microbatches,
    )
    return GradientFunction(fun, request, with_value=True)


def grad(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    budget: Budget = None,
    policy: str | Callable | Schedule = "optimal",
    saveable: str | Callable[..., Any] | None = None,
    costs: str = "auto",
    target: TargetChoice = None,
    shardings: Any = None,
    runtime: str = "compiled",
    progress: bool | Callable[[int, int], object] = False,
    tiers: Sequence[str] | str = (),
    encodings: Sequence[str] | str | None = "auto",
    chunks: bool | str | Sequence[str] = "auto",
    microbatches: int | str | None = None,
) -> GradientFunction:
    """A function that evaluates the gradient of `fun`; see `value_and_grad`.

    Returns:
        A function that returns the gradient, or (gradient, aux) with `has_aux`.

    Example:
        >>> import ckptgrad as cg
        >>> float(cg.grad(lambda x: x**3)(2.0))
        12.0
    """
    request = Request(
        argnums,
        has_aux,
        holomorphic,
        allow_int,
        budget,
        policy,
        saveable,
        costs,
        target,
        shardings,
        runtime,
        progress,
        encodings,
        tiers,
        chunks,
        microbatches,
    )
    return GradientFunction(fun, request, with_value=False)
