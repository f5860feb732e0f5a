"""Boundaries sent to slower storage: simulated against measured times, and against the schedules of H-Revolve."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import ckptgrad as cg
from ckptgrad.bench.cases.resident import AGREE_BYTES, AGREE_SHARE
from ckptgrad.bench.h_revolve import h_revolve
from ckptgrad.bench.peers import CHECKPOINT_SCHEDULES, TORCH_CPU
from ckptgrad.bench.registry import Bench, case
from ckptgrad.bench.rows import Row, row
from ckptgrad.example_models import Problem, tanh_chain
from ckptgrad.execution.tiers.measured import known_rates
from ckptgrad.execution.tiers.tier import Tier, read_tier
from ckptgrad.planning import ChainCosts, get_policy, simulate
from ckptgrad.planning.makespan import Rates, simulate_makespan
from ckptgrad.planning.schedule import Fetch, Schedule
from ckptgrad.planning.transfers import Room, makespan_of, sent_at, tiered_schedule
from ckptgrad.target.attached import attached
from ckptgrad.validation.compare import difference
from ckptgrad.validation.timing import alternate

ROUNDS, QUICK_ROUNDS = 7, 2
CAPACITY = "8GiB"
# Boundaries that the device has room for, besides what a stage takes.
SLOTS = 8
MODELS: dict[str, Callable[[], Problem]] = {
    "12 tanh layers, 4096 x 512": partial(tanh_chain, layers=12, width=512, batch=4096),
}
QUICK_MODELS: dict[str, Callable[[], Problem]] = {"tanh layers": partial(tanh_chain, layers=10, width=32, batch=512)}

# Of equal stages: their number, slots in memory and on the tier, seconds of a transfer each way, in those of a forward.
CHAINS = ((16, 2, 4, 1.0), (32, 4, 8, 0.5), (64, 4, 16, 2.0))
QUICK_CHAINS = CHAINS[:1]
# Bytes of each boundary, residual and cotangent of these stages.
SIZE = 16

# Layers, width, batch and budget of the chain beyond memory, whose layers share a few matrices.
BEYOND, QUICK_BEYOND = (160, 512, 32768, "512MiB"), (12, 32, 1024, "1.3MiB")
SHARED = 8


@case("tiers", "Boundaries sent to the host and to a disk: simulated times against measured ones")
def tiers(bench: Bench) -> Iterator[Row]:
    """A schedule that runs no forward more often than once again and sends what it has no room for, stage by stage.

    Each is called a few times first. What was seen then, how fast transfers were and how long the run without them took,
    says how long the next calls will take: that is "simulated", and the ratio is that to the median of the calls after it.
    Stages are timed one by one, and scaled alike so that they add up to the run without transfers. Its own ratio says how
    much the machine became slower or faster meanwhile; in "scaled", the median over rounds, that is taken out. On a CPU the
    host's tier is a copy to another buffer of the same memory. "Difference" is that from jax.grad's gradient.
    torch's save_on_cpu copies on a CPU, too, so that its rows compare with those of the host; it plans nothing.
    """
    device = attached().devices[0]
    with TemporaryDirectory(prefix="ckptgrad-") as folder:
        for group, make in bench.size(MODELS, QUICK_MODELS).items():
            loss, args = make()
            bench.announce(f"{group}: stages")
            costs = cg.plan(loss, *args, costs="measure").costs
            plain = _boundaries_alone(costs, None)
            runs: dict[str, tuple[Any, Schedule, list[Tier]]] = {"no tier": (_compiled(loss, args, plain), plain, [])}
            for written in (f"host:{CAPACITY}", f"disk:{folder}:{CAPACITY}"):
                tier = read_tier(written)
                bench.announce(f"{group}: {tier.kind}")
                room = Room(tier.capacity, known_rates(tier, device))
                budget = SLOTS * max(costs.boundary_bytes(i) for i in range(len(costs)))
                sent = next(sent_at(costs, budget, [room], _boundaries_alone))
                runs[tier.kind] = _compiled(loss, args, sent, written), sent, [tier]
            expected, rounds = jax.grad(loss)(*args), bench.size(ROUNDS, QUICK_ROUNDS)
            yield from _timed(group, runs, costs, args, expected, rounds)
            bench.announce(f"{group}: torch")
            yield from _of_torch(group, args, expected, rounds)


def _boundaries_alone(costs: ChainCosts, budget: int | None) -> Schedule:
    return get_policy("recompute_all")(costs, None)


def _compiled(loss: Callable, args: tuple[Any, ...], schedule: Schedule, *tiers: str) -> Any:
    return cg.grad(loss, policy=schedule, runtime="staged", tiers=tiers).compile(*args)


def _timed(
    group: str, runs: dict[str, tuple[Any, Schedule, list[Tier]]], costs: ChainCosts, args: Any, expected: Any, rounds: int
) -> Iterator[Row]:
    _, plain, _ = runs["no tier"]
    alone = simulate_makespan(costs, plain, [], simulate(plain, costs).peak).seconds
    calls = [lambda c=c: c(*args) for c, _, _ in runs.values()]
    before = statistics.median(alternate(calls, rounds)[0])
    device = attached().devices[0]
    rates = {run: [known_rates(tier, device) for tier in tiers] for run, (_, _, tiers) in runs.items()}
    told = {run: _simulated(costs, schedule, rates[run], before / alone) for run, (_, schedule, _) in runs.items()}
    seconds = dict(zip(runs, alternate(calls, rounds), strict=True))
    for run, (certified, schedule, _) in runs.items():
        scaled = [_simulated(costs, schedule, rates[run], now / alone) for now in seconds["no tier"]]
        middle = statistics.median(seconds[run])
        yield row(
            run,
            group,
            certified_bytes=certified.peak_bytes,
            sent_boundaries=schedule.sent,
            put_bytes_per_second=rates[run][0].put if rates[run] else None,
            get_bytes_per_second=rates[run][0].get if rates[run] else None,
            run_seconds=middle,
            simulated_seconds=told[run],
            simulated_ratio=told[run] / middle,
            scaled_ratio=statistics.median(s / found for s, found in zip(scaled, seconds[run], strict=True)),
            difference=difference(certified(*args), expected).relative,
        )


def _of_torch(group: str, args: tuple[Any, ...], expected: Any, rounds: int) -> Iterator[Row]:
    """The same layers in eager torch, and with all that their backward reads sent to the host (`save_on_cpu`)."""
    if TORCH_CPU.skip:
        yield row("torch", group, skipped=TORCH_CPU.skip)
        return
    torch: Any = TORCH_CPU.load()
    weights, x = jax.tree.map(lambda value: torch.from_numpy(np.array(value)), args)
    for w in weights:
        w.requires_grad_()

    def gradient() -> Any:
        y = x
        for w in weights:
            y = y + torch.tanh(y @ w)
        return torch.autograd.grad((y**2).mean(), weights)

    def sending() -> Any:
        with torch.autograd.graph.save_on_cpu():
            return gradient()

    calls = {"torch, eager": gradient, "torch.autograd.graph.save_on_cpu": sending}
    for run, seconds in zip(calls, alternate([*calls.values()], rounds), strict=True):
        found = [np.asarray(g) for g in calls[run]()]
        yield row(run, group, run_seconds=statistics.median(seconds), difference=difference(found, expected).relative)


def _simulated(costs: ChainCosts, schedule: Schedule, rates: list[Rates], slower: float) -> float:
    """The makespan where stages take so many times as long, and transfers do not."""
    in_stages = [replace(r, put=r.put * slower, get=r.get * slower, latency=r.latency / slower) for r in rates]
    return slower * makespan_of(costs, schedule, in_stages).seconds


@case("tiers-schedules", "Schedules with a tier against those of H-Revolve, of the same slots")
def tiers_schedules(bench: Bench) -> Iterator[Row]:
    """Equal stages, whose forward takes a second and whose backward two. The group's name says in how many seconds a
    boundary is sent, and fetched.

    H-Revolve's seconds are those of its own model, in which nothing overlaps; "overlapped" is the same schedule where
    transfers go on beside computation. Ours is given the bytes of H-Revolve's schedule and of one boundary on its way each
    way, as that schedule is certified to take here, too.
    """
    for steps, in_memory, on_tier, transfer in bench.size(CHAINS, QUICK_CHAINS):
        group = f"{steps} stages, {in_memory} slots and {on_tier} on the tier, {transfer:g} s"
        bench.announce(group)
        if CHECKPOINT_SCHEDULES.skip:
            yield row("H-Revolve", group, skipped=CHECKPOINT_SCHEDULES.skip)
            continue
        costs = ChainCosts.uniform(steps, boundary_bytes=SIZE, residual_bytes=SIZE, cotangent_bytes=SIZE, backward_time=2.0)
        rates = Rates(SIZE / transfer, SIZE / transfer)
        synchronous, seconds = h_revolve(steps, in_memory, on_tier, 2.0, transfer, transfer)
        budget = simulate(synchronous, costs).peak + 2 * SIZE
        ours = tiered_schedule(costs, budget, [Room(on_tier * SIZE, rates)], get_policy("optimal"))
        yield _counted("H-Revolve", group, synchronous, costs, seconds)
        overlapped = simulate_makespan(costs, synchronous, [rates], budget).seconds
        yield _counted("H-Revolve, overlapped", group, synchronous, costs, overlapped)
        yield _counted("ours", group, ours, costs, makespan_of(costs, ours, [rates]).seconds)


def _counted(run: str, group: str, schedule: Schedule, costs: ChainCosts, seconds: float) -> Row:
    return row(
        run,
        group,
        forward_steps=schedule.forwards,
        sent_boundaries=schedule.sent,
        fetched_boundaries=sum(isinstance(action, Fetch) for action in schedule),
        held_boundaries=simulate(schedule, costs).peak // SIZE,
        simulated_seconds=seconds,
    )


@case("tiers-beyond", "A chain whose boundaries are many times what the device may hold, with a disk")
def tiers_beyond(bench: Bench) -> Iterator[Row]:
    """Tanh layers that share eight matrices, and whose boundaries are 10 GiB together, within 512 MiB. No forward runs more
    often than once again; what the device has no room for goes to a folder for temporary files.

    "Resident" is by how much the resident set of the process grows during the call, which agrees with what is certified if
    it differs by at most 10 % plus 64 MiB. "Simulated" is the plan's time, by estimated costs of stages.
    """
    layers, width, batch, budget = bench.size(BEYOND, QUICK_BEYOND)
    keys = jax.random.split(jax.random.key(0), SHARED + 1)
    weights = [jax.random.normal(key, (width, width)) / width**0.5 for key in keys[1:]]
    x = jax.random.normal(keys[0], (batch, width))

    def loss(weights: list[jax.Array], x: jax.Array) -> jax.Array:
        for k in range(layers):
            x = jnp.tanh(x @ weights[k % SHARED])
        return jnp.mean(x**2)

    bench.announce("compiling")
    with TemporaryDirectory(prefix="ckptgrad-") as folder:
        options: dict[str, Any] = {"policy": "recompute_all", "runtime": "staged", "budget": budget}
        certified = cg.value_and_grad(loss, **options, tiers=[f"disk:{folder}:40GiB"]).compile(weights, x)
        bench.announce("running")
        grown, seconds = _resident_growth(lambda: jax.block_until_ready(certified(weights, x)))
    found, plan = certified.peak_bytes, certified.plan
    yield row(
        "disk",
        boundaries_bytes=sum(plan.costs.boundary_bytes(i) for i in range(1, len(plan.costs))),
        budget_bytes=certified.budget,
        certified_bytes=found,
        resident_bytes=grown,
        agree=abs(grown - found) <= AGREE_SHARE * found + AGREE_BYTES,
        sent_boundaries=plan.schedule.sent,
        run_seconds=seconds,
        simulated_seconds=plan.seconds,
    )


def _resident_growth(call: Callable[[], Any]) -> tuple[int, float]:
    """By how many bytes the resident set grows during a call, sampled, and its seconds."""
    psutil: Any = import_module("psutil")
    process, done = psutil.Process(), Event()
    gc.collect()
    before = most = process.memory_info().rss

    def sample() -> None:
        nonlocal most
        while not done.wait(0.001):
            most = max(most, process.memory_info().rss)

    thread = Thread(target=sample, name="resident set", daemon=True)
    thread.start()
    start = time.perf_counter()
    try:
        call()
    finally:
        seconds = time.perf_counter() - start
        done.set()
        thread.join()
    return most - before, seconds
