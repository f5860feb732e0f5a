"""Costs of compiled stages: what they hold, how long they take, and how few of them are compiled."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.costs.compiled import compiled_costs, count_probes, places_of, with_probes
from ckptgrad.costs.estimated import estimated_costs
from ckptgrad.costs.probe_values import SCOPE
from ckptgrad.costs.probes import Figures, Probe, compile_probes, region_option
from ckptgrad.planning.ledger import backward_change, forward_change
from ckptgrad.target.attached import attached
from ckptgrad.target.hlo.kernels import kernel_seconds
from ckptgrad.target.platform import Isolation
from tests.support.probes import probes_from_now_on
from tests.support.targets import compile_only

X = jax.ShapeDtypeStruct((64, 16), jnp.float32)
WS = [jax.ShapeDtypeStruct((16, 16), jnp.float32)] * 4


def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return (x**2).sum()


def slow(seconds):
    """The CPU of this process, as if its compiler took a while, and said how long programs take."""
    target = attached()
    return replace(target, platform=replace(target.platform, quick_probes=False, compiled_seconds=seconds))


@pytest.fixture
def asked(monkeypatch):
    """The programs that were compiled for their figures."""
    return probes_from_now_on(monkeypatch)


def test_seconds_are_those_that_are_read(asked):
    """Without what a probe makes and reads itself; equal programs are compiled once."""
    scopes = []
    program = cg.plan(loss, WS, X, target=slow(lambda module, rates, links, without: scopes.append(without) or 3.0)).program
    for stage in compiled_costs(program).stages:
        assert stage.forward_time == 3
        assert {(o.forward_time, o.backward_time, o.output_time) for o in stage.options} == {(3, 3, 0)}
    assert {*scopes} == {SCOPE}
    assert len({lowered.as_text() for lowered in asked}) == len(asked)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_seconds_that_are_not_asked_for_are_as_much_longer_than_estimated_as_others(factor):
    stated = [1.0]
    program = cg.plan(loss, WS, X, target=slow(lambda module, rates, links, without: stated[0])).program
    estimated = estimated_costs(program)
    places, middle = places_of(program, estimated), len(program.stages) // 2
    before = estimated.stages[middle]
    stated[0] = factor * before.options[0].time
    probes = [
        Probe(program.stages[middle].kind, "forward", 0),
        Probe(program.stages[middle].kind, "backward", 0, places[middle]),
    ]
    compile_probes(probes)
    after = with_probes(program, estimated, places, probes).stages[middle]
    assert after.options[0].forward_time == after.options[0].backward_time == stated[0]
    assert after.options[-1].backward_time == pytest.approx(2 * factor * before.options[-1].backward_time)
    assert after.forward_time == pytest.approx(2 * factor * before.forward_time)


def test_what_takes_far_longer_than_its_small_estimate_says_little_of_others():
    """A forward alone, or a backward that was estimated at next to nothing: what it takes beyond that is spread over a whole
    forward and backward."""
    program = cg.plan(loss, WS, X, target=slow(lambda module, rates, links, without: 3.0)).program
    estimated = estimated_costs(program)
    places, middle = places_of(program, estimated), len(program.stages) // 2
    probe = Probe(program.stages[middle].kind, "backward", 0, places[middle])
    compile_probes([probe])
    first, *others = estimated.stages[middle].options
    free = replace(estimated.stages[middle], options=(replace(first, backward_time=1e-12), *others))
    costs = replace(estimated, stages=tuple(free if i == middle else s for i, s in enumerate(estimated.stages)))
    after = with_probes(program, costs, places, [probe]).stages[middle]
    whole = min(option.time for option in free.options)
    assert after.options[0].backward_time == 3
    assert after.forward_time == pytest.approx((1 + 3 / whole) * free.forward_time)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_an_estimate_that_is_too_slow_over_many_chunks_says_nothing_of_fewer(factor):
    """One that is too fast does: the others take as much longer."""
    stated = [1.0]
    target = slow(lambda module, rates, links, without: stated[0])
    program = cg.plan(loss, WS, X, target=target, chunks=True, budget="min", costs="estimate").program
    estimated = estimated_costs(program)
    places, middle = places_of(program, estimated), len(program.stages) // 2
    fewest, *_, most = program.stages[middle].kind.over_chunks
    before = estimated.stages[middle].options
    stated[0] = factor * before[most].backward_time
    probe = Probe(program.stages[middle].kind, "backward", most, places[middle])
    compile_probes([probe])
    after = with_probes(program, estimated, places, [probe]).stages[middle].options
    assert after[most].backward_time == stated[0]
    assert after[fewest].backward_time == pytest.approx(max(1.0, factor) * before[fewest].backward_time)


@pytest.mark.parametrize("off", [-50_000, 50_000])
def test_what_was_not_asked_for_takes_as_much_more_than_estimated_as_others_but_no_less(off):
    """What one backward holds less, as over other chunks, another need not."""
    program = cg.plan(loss, WS, X).program
    estimated = estimated_costs(program)
    places, middle = places_of(program, estimated), len(program.stages) // 2
    probe = Probe(program.stages[middle].kind, "backward", 0, places[middle])
    compile_probes([probe])
    right = with_probes(program, estimated, places, [probe]).stages[middle].options[0].backward_transient
    first, *others = estimated.stages[middle].options
    wrong = replace(estimated.stages[middle], options=(replace(first, backward_transient=right + off), *others))
    costs = replace(estimated, stages=tuple(wrong if i == middle else s for i, s in enumerate(estimated.stages)))
    found = with_probes(program, costs, places, [probe]).stages[middle].options
    assert found[0].backward_transient == right
    assert [o.backward_transient for o in found[1:]] == [o.backward_transient + max(0, -off) for o in others]


@pytest.mark.parametrize(("near_memory", "taken"), [(True, 0), (True, 1 << 30), (False, 0)])
def test_what_is_no_larger_than_what_was_kept_near_takes_no_memory(monkeypatch, near_memory, taken):
    """Of the last stage nor does what its forward keeps: its backward is next. Others keep it for longer."""
    monkeypatch.setattr(Probe, "figures", property(lambda probe: Figures(taken, None)))
    target = attached()
    target = replace(target, platform=replace(target.platform, near_memory=near_memory))
    program = cg.plan(loss, WS, X, target=target).program
    estimated = estimated_costs(program)

    def holding(stage):
        """With a choice that keeps little, and one that holds the most, in its backward."""
        first = stage.options[0]
        small = replace(first, residual_bytes=100, reads_input=True, forward_transient=10, backward_transient=0)
        return replace(stage, options=(replace(first, backward_transient=10**6), *[small] * (len(stage.options) - 1)))

    costs = replace(estimated, stages=tuple(map(holding, estimated.stages)))
    places = places_of(program, costs)
    probes = [Probe(stage.kind, "backward", 0, place) for stage, place in zip(program.stages, places, strict=True)]
    assert all(len(stage.kind.options) > 1 for stage in program.stages)
    before, after = costs.stages, with_probes(program, costs, places, probes).stages
    if near_memory and not taken:
        assert [stage.forward_transient for stage in after] == [0] * len(after)
        assert [stage.options[-1].forward_transient for stage in after] == [0] * (len(after) - 1) + [-100]
        assert all(stage.options[-1].backward_transient < 0 for stage in after)
    else:
        assert [s.forward_transient for s in after] == [s.forward_transient for s in before]
        assert all(stage.options[-1].backward_transient >= 0 for stage in after)
        assert all(stage.options[-1].forward_transient >= 0 for stage in after)


@pytest.mark.parametrize("near_memory", [True, False])
def test_a_backward_holds_no_more_beside_what_it_is_given_than_one_of_fewer_residuals(monkeypatch, near_memory):
    """That makes the others again. Estimates tell of more where they do not know what stays near."""
    monkeypatch.setattr(Probe, "figures", property(lambda probe: Figures(1 << 20, None)))
    target = attached()
    target = replace(target, platform=replace(target.platform, near_memory=near_memory))
    program = cg.plan(loss, WS, X, target=target).program
    estimated = estimated_costs(program)
    places, middle = places_of(program, estimated), len(program.stages) // 2
    kind, cost = program.stages[middle].kind, estimated.stages[middle]
    residuals = [{*option.partition.residuals} for option in kind.options]
    fewest = next(k for k, held in enumerate(residuals) if not held)
    assert any(residuals)
    # As if by estimates they held far more than the compiler says of one.
    costs = replace(
        estimated,
        stages=tuple(
            replace(s, options=tuple(replace(o, backward_transient=1 << 30) for o in s.options)) for s in estimated.stages
        ),
    )
    after = with_probes(program, costs, places, [Probe(kind, "backward", fewest, places[middle])]).stages[middle].options
    known = after[fewest].backward_transient
    assert known < 1 << 20
    assert len(after) == len(cost.options)
    assert {o.backward_transient for o, held in zip(after, residuals, strict=True) if held} == (
        {known} if near_memory else {1 << 30}
    )


def test_as_much_as_stays_near_in_the_last_backward_does_so_from_its_forward_on(monkeypatch):
    """Which comes right before it; no more than it keeps."""
    monkeypatch.setattr(Probe, "figures", property(lambda probe: Figures(1 << 20, None)))
    target = attached()
    rates = replace(target.rates, cache=5000)
    target = replace(target, rates=rates, platform=replace(target.platform, near_memory=True))
    program = cg.plan(loss, WS, X, target=target).program
    estimated = estimated_costs(program)
    places = places_of(program, estimated)
    for kept, taken in ((1 << 20, 100 - 5000), (2000, -2000)):

        def holding(stage, kept=kept):
            first = replace(stage.options[0], residual_bytes=kept, reads_input=True, forward_transient=100)
            return replace(stage, options=(replace(first, backward_transient=1 << 21), *stage.options[1:]))

        costs = replace(estimated, stages=tuple(map(holding, estimated.stages)))
        probes = [Probe(stage.kind, "backward", 0, place) for stage, place in zip(program.stages, places, strict=True)]
        after = [stage.options[0].forward_transient for stage in with_probes(program, costs, places, probes).stages]
        assert after == [*[100] * (len(after) - 1), taken]


def test_a_repetition_takes_what_the_backward_takes_that_does_both():
    """Where barriers stand around both together; whatever the repetition keeps."""
    target = slow(lambda module, rates, links, without: 3.0)
    target = replace(target, platform=replace(target.platform, isolation=Isolation.BARRIERS))
    program = cg.plan(loss, WS, X, target=target).program
    costs = compiled_costs(program)
    leaving = [costs.input_cotangent_bytes, *(stage.cotangent_bytes for stage in costs.stages)]
    for i, (stage, cost) in enumerate(zip(program.stages, costs.stages, strict=True)):
        together = region_option(stage.kind)
        assert together is not None
        assert stage.kind.options[together].name == "input"
        both = backward_change(cost, together, leaving[i]).during
        for k, option in enumerate(cost.options):
            assert forward_change(cost, k, output=False).during >= both
            assert option.time_alone == 3


def test_a_slow_compiler_is_asked_about_some_programs_whatever_the_budget(asked):
    """About the same ones: plans by different costs could not be compared."""
    target = slow(kernel_seconds)
    safe = cg.value_and_grad(loss, budget="0.9x", target=target).compile(WS, X)
    count = len(asked)
    assert 0 < count < count_probes(safe.plan.program)
    cg.value_and_grad(loss, budget="0.95x", target=target).compile(WS, X)
    assert len(asked) == count


def widths(n):
    return [jax.ShapeDtypeStruct((512, 512), jnp.float32)] * n, jax.ShapeDtypeStruct((4096, 512), jnp.float32)


@pytest.mark.parametrize(
    ("name", "budget"),
    [("h100", "0.5x"), pytest.param("v5e:2x2", "0.5x", marks=pytest.mark.slow)],
)
def test_bytes_and_seconds_of_a_chip_that_is_not_here(name, budget):
    """The sum over the stages is that of the whole program."""
    target = compile_only(name)
    safe = cg.value_and_grad(loss, budget=budget, target=target).compile(*widths(4))
    assert safe.peak_bytes == pytest.approx(safe.plan.peak_bytes, rel=0.03)
    assert target.compiled_seconds(safe.executable) == pytest.approx(safe.plan.seconds, rel=0.15)
    assert f"compiled for {target}, which is not attached" in " ".join(str(safe.plan).split())


def test_tables_are_held_through_the_whole_program(monkeypatch):
    """Of each stage those of the backward that has most; what forwards were asked for says nothing of them."""
    sizes = {"forward": 1 << 20, "backward": 100}
    tables = property(lambda probe: Figures(0, None, sizes[probe.run] * (1 + (probe.option or 0))))
    monkeypatch.setattr(Probe, "figures", tables)
    program = cg.plan(loss, WS, X).program
    estimated = estimated_costs(program)
    places = places_of(program, estimated)
    pairs = [*zip(program.stages, places, strict=True)]
    held = [
        with_probes(
            program, estimated, places, [Probe(s.kind, run, k, place if run == "backward" else None) for s, place in pairs]
        ).held_bytes
        - estimated.held_bytes
        for run, k in [("backward", 0), ("backward", 1), ("forward", 0)]
    ]
    assert held == [100 * len(pairs), 200 * len(pairs), 0]
    both = [Probe(s.kind, "backward", k, place) for s, place in pairs[:1] for k in (1, 0)]
    alike = sum((s.kind, place) == (pairs[0][0].kind, pairs[0][1]) for s, place in pairs)
    assert with_probes(program, estimated, places, both).held_bytes == estimated.held_bytes + 200 * alike
