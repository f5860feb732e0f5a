"""What a user asks of a gradient: the options of all doors as one value, checked in one place."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

import numpy as np

from ckptgrad.bytes import Budget, check_budget, is_auto, is_fit
from ckptgrad.chunks.choice import ChunkChoice, read_chunks, read_written_chunks
from ckptgrad.costs import source
from ckptgrad.errors import ArgnumsError, OptionError
from ckptgrad.execution.tiers.tier import Tier, read_tiers
from ckptgrad.planning.policy import Policy, get_policy, registered
from ckptgrad.planning.schedule import Schedule
from ckptgrad.stage.encodings.encoding import AUTO, check_encodings, exact_encodings, read_encodings, written_encodings
from ckptgrad.stage.save_options import Saveable
from ckptgrad.stage.written_saveable import check_saveable
from ckptgrad.target.named import TargetChoice
from ckptgrad.target.named import target as named_target
from ckptgrad.target.target import Target
from ckptgrad.text_options import Text, TextOption, read_argnums, read_count

# The kind of tier that one program may use.
HOST = "host"
# "compiled": one program. "staged": the actions of the plan one by one, from Python. "auto": the first, as long as compiling
# one program is affordable.
RUNTIMES = ("compiled", "staged", "auto")

PolicyChoice: TypeAlias = str | Policy | Schedule

# How the options are written on the command line and in magics.
_ARGNUMS = Text("Arguments to differentiate: 0, or 0,1 for a tuple of gradients", read=read_argnums, repeats=True)
_HAS_AUX = Text("The function returns (scalar, aux)")
_BUDGET = Text('Bytes beyond the arguments: "512MiB", "0.25x" of store_all, "min", "auto"')
_POLICY = Text("The policy that decides what to store", choices=registered)
_SAVEABLE = Text(
    "What may be kept inside stages: a policy of jax.checkpoint_policies by its name, as dots_saveable; behind those of "
    "marks a colon and the marks, separated by commas"
)
_COSTS = Text("How stages are judged", choices=lambda: source.CHOICES)
_RUNTIME = Text("Whether the gradient is one program or runs stage by stage", choices=lambda: RUNTIMES)
_ENCODINGS = Text("In which forms values may be kept", choices=written_encodings, read=read_encodings, repeats=True)
_TIERS = Text('Where to send what does not fit: "host:64GiB", "disk:/scratch:500GiB"', read=tuple, repeats=True)
_MICROBATCHES = Text('In how many parts of the batch: a number, or "auto"', read=read_count)
_CHUNKS = Text(
    'Stages over chunks of an axis: auto, true, false, or "not axis 1 of tokens"', read=read_written_chunks, repeats=True
)
_TARGET = Text('What is compiled for, if not what is attached: "h100", "h100:8", "v5e:2x2", "cpu", a file about a GPU')


@dataclass(frozen=True)
class Request:
    """The options of a door. Fields with metadata are options of the command line and of magics too.

    Attributes:
        argnums: positions of the differentiated arguments: an int, or a tuple of ints for any other iterable.
        has_aux: whether the function returns (output, aux).
        holomorphic: whether the function is promised to be holomorphic.
        allow_int: whether integer arguments are allowed; their gradient is float0 zeros.
        budget: bytes that the call may hold beyond its arguments, as `ckptgrad.bytes` reads them.
        policy: the name of a policy, a function (costs, bytes) -> Schedule, or a Schedule.
        saveable: which values may be kept inside stages, a predicate as in `jax.checkpoint_policies` or the name of one as
            `stage.written_saveable` reads it; kept as a predicate; None: all.
        costs: how stages are judged, one of `costs.source.CHOICES`.
        target: what is compiled for: given in any form that `ckptgrad.target` takes, kept as a Target; None: whatever is the
            default device of this process when the function is called.
        shardings: how the arguments lie over several devices, a prefix of the positional ones; None: as they say themselves.
        runtime: how the gradient is run, one of `RUNTIMES`.
        progress: of a gradient that runs stage by stage: whether a bar is shown, or what is told after each step how many
            are done, of how many.
        encodings: in which forms values may be kept: "auto", the exact ones where there is a budget; inexact ones by name,
            beside these; none for None, False or (). Kept as "auto" or a tuple.
        tiers: where boundaries are sent that do not fit, for `runtime="staged"`: "host:64GiB", "disk:/scratch:500GiB"; or
            "auto". For one program "host:64GiB" or "auto", where loops may store. Kept as a tuple of `Tier`.
        chunks: whether stages may run over chunks of an axis where a budget asks for it; kept as a `ChunkChoice`.
        microbatches: in how many parts of the batch the gradient is computed, one after the other; "auto": as many as give
            the best plan.

    Raises:
        BudgetFormatError: the budget is malformed.
        PolicyError: no policy has this name.
        OptionError: `saveable`, `costs`, `runtime` or the target is unknown, or `argnums` is empty.
        TierError: a tier is malformed.
        MissingExtraError: the compiler of the target is not installed.
        ArgnumsError: `argnums` is not an int or an iterable of ints.
    """

    argnums: int | Sequence[int] = field(default=0, metadata=_ARGNUMS.metadata)
    has_aux: bool = field(default=False, metadata=_HAS_AUX.metadata)
    holomorphic: bool = False
    allow_int: bool = False
    budget: Budget = field(default=None, metadata=_BUDGET.metadata)
    policy: PolicyChoice = field(default="optimal", metadata=_POLICY.metadata)
    saveable: str | Saveable | None = field(default=None, metadata=_SAVEABLE.metadata)
    costs: str = field(default="auto", metadata=_COSTS.metadata)
    target: TargetChoice = field(default=None, metadata=_TARGET.metadata)
    shardings: Any = None
    runtime: str = field(default="compiled", metadata=_RUNTIME.metadata)
    progress: bool | Callable[[int, int], object] = False
    encodings: Sequence[str] | str | None = field(default=AUTO, metadata=_ENCODINGS.metadata)
    tiers: Sequence[str] | str = field(default=(), metadata=_TIERS.metadata)
    chunks: bool | str | Sequence[str] | ChunkChoice = field(default="auto", metadata=_CHUNKS.metadata)
    microbatches: int | str | None = field(default=None, metadata=_MICROBATCHES.metadata)

    def __post_init__(self) -> None:
        check_budget(self.budget)
        if not isinstance(self.policy, Schedule):
            get_policy(self.policy)
        if self.costs not in source.CHOICES:
            raise OptionError(f"costs={self.costs!r} is unknown; there are {', '.join(source.CHOICES)}")
        if self.runtime not in RUNTIMES:
            raise OptionError(f"runtime={self.runtime!r} is unknown; there are {', '.join(RUNTIMES)}")
        object.__setattr__(self, "argnums", _checked_argnums(self.argnums))
        object.__setattr__(self, "saveable", check_saveable(self.saveable))
        object.__setattr__(self, "encodings", check_encodings(self.encodings))
        one_program = self.runtime == "compiled"
        object.__setattr__(self, "tiers", read_tiers("host" if one_program and self.tiers == "auto" else self.tiers))
        others = [str(tier) for tier in self.tiers if isinstance(tier, Tier) and tier.kind != HOST]
        if others and one_program:
            raise OptionError(f"the tier {others[0]!r} needs runtime='staged': one program sends to the host's memory alone")
        object.__setattr__(self, "chunks", read_chunks(self.chunks))
        self._check_microbatches()
        if self.target is not None:
            object.__setattr__(self, "target", named_target(self.target))

    def _check_microbatches(self) -> None:
        count = self.microbatches
        if count is None:
            return
        if count != "auto" and (not _is_index(count) or int(count) < 1):
            raise OptionError(f'microbatches={count!r} must be a positive number, "auto" or None')
        object.__setattr__(self, "microbatches", count if count == "auto" else int(count))
        if self.chunk_choice.whole and self.microbatches != 1:
            raise OptionError(f"microbatches={count!r} is not to be had with axes that stay whole: give chunks=False")
        if self.runtime == "staged":
            raise OptionError("microbatches= needs runtime='compiled': their loop is part of one program")
        if self.asks_to_fit:
            raise OptionError("microbatches= needs a budget of its own: budget='fit' plans the calls of a step as they are")

    @property
    def may_keep(self) -> Saveable | None:
        """Which values may be kept inside stages; None: all."""
        return check_saveable(self.saveable)

    @property
    def chunk_choice(self) -> ChunkChoice:
        """Whether stages may run over chunks of an axis."""
        return read_chunks(self.chunks)

    @property
    def compiled_for(self) -> Target:
        """The target; where none is named, what is the default device now. One program may use tiers in the host's memory.

        Raises:
            OptionError: no program for this target can.
        """
        target = named_target(self.target)
        if not self.tiers or self.runtime != "compiled":
            return target
        if target.platform.host_rate is None:
            raise OptionError(
                f"a program for {target} keeps nothing in another memory: give tiers= with runtime='staged', or a target "
                f"whose compiler does (a GPU, a TPU)"
            )
        return target.with_host(sum(tier.capacity for tier in self.tiers if isinstance(tier, Tier)))

    @property
    def given_stages(self) -> int | None:
        """For how many stages a given schedule is, or a plan that was saved; None where the policy decides."""
        return getattr(self.policy, "stages", None)

    @property
    def kept_as(self) -> tuple[str, ...]:
        """The names of the encodings that plans may use. A given schedule may be one of a plan within a budget."""
        if self.encodings == ():
            return ()
        named = () if self.encodings == AUTO else tuple(self.encodings or ())
        saves = self.budget is not None or self.given_stages is not None
        return tuple(dict.fromkeys([*(exact_encodings() if saves else ()), *named]))

    @property
    def as_one_program(self) -> Request:
        """The request where a gradient might have run stage by stage, and does not: without the tiers for that."""
        return replace(self, tiers=()) if self.runtime == "auto" and self.tiers else self

    @property
    def asks_for_least(self) -> bool:
        """Whether the budget is "min": the smallest plan, whatever it needs."""
        return isinstance(self.budget, str) and self.budget.strip().lower() == "min"

    @property
    def budget_source(self) -> str:
        """What the budget is taken from, in words, where it is "auto"; else empty."""
        return self.compiled_for.free_words() if is_auto(self.budget) else ""

    @property
    def asks_to_fit(self) -> bool:
        """Whether the budget is "fit": what the step around the call leaves."""
        return is_fit(self.budget)

    def for_argnums(self, results: Sequence[Any]) -> Any:
        """One result per differentiated argument: as a tuple, or alone where `argnums` is an int."""
        return results[0] if isinstance(self.argnums, int) else tuple(results)


def taken_by(door: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some options that a door takes."""
    parameters = inspect.signature(door).parameters
    return {name: value for name, value in options.items() if name in parameters}


def text_options(door: Callable[..., Any] = Request) -> list[TextOption]:
    """The options of a door that can be written as text; of `Request`, all of them."""
    options = {f.name: option for f in fields(Request) if (option := TextOption.of(f))}
    return [*taken_by(door, options).values()]


def _checked_argnums(argnums: Any) -> int | tuple[int, ...]:
    if _is_index(argnums):
        return int(argnums)
    several = isinstance(argnums, Iterable) and not isinstance(argnums, (str, bytes))
    numbers = tuple(argnums) if several else ()
    if not several or not all(map(_is_index, numbers)):
        raise ArgnumsError(f"argnums must be an int or a sequence of ints, got {argnums!r}")
    if not numbers:
        raise OptionError(f"argnums={argnums!r} must name at least one argument")
    return tuple(map(int, numbers))


def _is_index(value: Any) -> bool:
    return not isinstance(value, (bool, np.bool_)) and hasattr(value, "__index__") and np.ndim(value) == 0
