"""Estimated costs, corrected by the compiler about the stages of the plans that they lead to.

While a program is traced there is no time to compile every option of every stage.  So a plan is made from estimates, the
compiler is asked about the few programs that this plan runs, and another plan is made from what it says: until all that a
plan runs was asked about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ckptgrad.chain.kind import StageKind
from ckptgrad.chain.program import Program
from ckptgrad.costs.compiled import places_of, probes_of, with_probes
from ckptgrad.costs.estimated import costs_of_stages
from ckptgrad.costs.hosted import with_hosted
from ckptgrad.costs.probes import Probe, compile_probes, repetition
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.schedule import Action, Backward, Forward
from ckptgrad.target.footprint import is_sure


class AskedCosts:
    """The costs of a program, known better with every question.

    They depend on the questions alone, not on what was compiled before: equal programs get equal plans.

    Attributes:
        costs: as they are known now.
        estimated: as they were before anything was asked.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._alone = costs_of_stages(program)
        self.estimated = self.costs = with_hosted(program, self._alone)
        self._places = places_of(program, self.costs)
        self._asked: set[Probe] = set()

    @property
    def lowest(self) -> ChainCosts:
        """Costs below which no compiler can be: no forward takes scratch, and each backward writes over what it reads."""
        costs = self._alone
        stages = [
            replace(
                stage,
                options=tuple(
                    replace(o, forward_transient=0, backward_transient=-costs.cotangent_bytes(i), hidden_bytes=0)
                    for o in stage.options
                ),
                forward_transient=0,
            )
            for i, stage in enumerate(costs.stages)
        ]
        return with_hosted(self._program, replace(costs, stages=tuple(stages)))

    def ask(self, schedule: Iterable[Action], *, sure: bool, most: int, only_backwards: bool = False) -> bool:
        """Ask the compiler about the programs that a schedule runs.

        Args:
            schedule: the actions.
            sure: whether stages of which the estimate is sure are asked about too.
            most: the number of programs that may be asked about in total.
            only_backwards: whether forwards are left out.

        Returns:
            Whether something was asked that had not been asked before.
        """
        probes = self._probes(schedule)
        return self._ask((p for p in probes if p.run == "backward" or not only_backwards), sure, most)

    def ask_everything(self, *, most: int) -> bool:
        """As `ask`, about every program of the stages that have few."""
        pairs = {(stage.kind, place) for stage, place in zip(self._program.stages, self._places, strict=True)}
        probes = (probe for kind, place in pairs if kind.is_probed_whole for probe in probes_of(kind, place))
        return self._ask(probes, sure=True, most=most)

    def ask_over_chunks(self, *, most: int) -> bool:
        """As `ask`, about the backward of every option that runs over chunks."""
        pairs = {(stage.kind, place) for stage, place in zip(self._program.stages, self._places, strict=True)}
        probes = (Probe(kind, "backward", k, place) for kind, place in pairs for k in kind.over_chunks)
        return self._ask(probes, sure=True, most=most)

    def _ask(self, probes: Iterable[Probe], sure: bool, most: int) -> bool:
        # A schedule runs few programs, each of them many times.
        new = {p for p in {*probes} - self._asked if p.kind.stands_alone and (sure or not _is_sure(p))}
        if not new or len(new) + len(self._asked) > most:
            return False
        compile_probes(new)
        self._asked |= new
        self.costs = with_probes(self._program, self._alone, self._places, self._asked)
        return True

    def _probes(self, schedule: Iterable[Action]) -> Iterator[Probe]:
        stages, kept = self._program.stages, dict[int, int | None]()
        for action in schedule:
            if isinstance(action, Forward):
                kind = stages[action.stage].kind
                kept[action.stage] = action.keep
                yield Probe(kind, "forward", action.keep)
                if not action.output and action.keep is not None and _runs_hidden(kind, action.keep):
                    yield repetition(kind, action.keep, self._places[action.stage])
            elif isinstance(action, Backward):
                i = action.stage
                yield Probe(stages[i].kind, "backward", kept[i], self._places[i])


def _runs_hidden(kind: StageKind, option: int) -> bool:
    """Whether a forward runs anything that does not produce the outgoing boundary: it does not if its option keeps nothing,
    as one over chunks in a single pass."""
    return bool(Probe(kind, "hidden", option).program.operations)


def _is_sure(probe: Probe) -> bool:
    """Whether the estimate can be relied on."""
    run = probe.program
    return is_sure(run.operations, run.makes, probe.kind.target)
