"""Back-propagation through time within a budget, against jax.grad, nested jax.checkpoint, equinox and diffrax."""

from __future__ import annotations

from collections.abc import Iterator

import jax.numpy as jnp

import ckptgrad as cg
from ckptgrad.bench.measure import certified_program, compare_programs, first_compilations, peer_program
from ckptgrad.bench.peers import DIFFRAX, EQUINOX
from ckptgrad.bench.recurrent import (
    arguments,
    diffrax_steps,
    equinox_scan,
    equinox_while,
    gradient,
    nested_scan_loss,
    output_bytes,
    scan_loss,
    state_bytes,
    while_loop_loss,
)
from ckptgrad.bench.registry import Bench, case
from ckptgrad.bench.rows import Row, row
from ckptgrad.target.allocated import compiled_memory

ROUNDS, QUICK_ROUNDS = 7, 1
ARGNUMS = (0, 1, 2)
# Steps, width, batch; budgets in states; steps of the inner loop under jax.checkpoint; checkpoints of equinox.
SIZES = (
    (4096, 64, 16, (338, 128, 32), 64, (128, 32)),
    (1024, 256, 64, (178, 64, 32), 32, (64, 16)),
    (65536, 32, 8, (1024, 512, 64), 256, (512, 64)),
)
QUICK_SIZES = ((64, 32, 16, (32,), 8, (8,)),)


@case("scans", "Back-propagation through a scan, against nested jax.checkpoint and equinox's checkpointed scan")
def scans(bench: Bench) -> Iterator[Row]:
    """A recurrent cell h <- tanh(h w + b). Temporaries come from XLA's buffer assignment; they are also given in states,
    which are sizes of the carried state, as are the budgets in the names of rows. Times are medians of ratios to jax.grad of
    `lax.scan`, with all rows interleaved in one process."""
    for length, width, batch, budgets, inner, checkpoints in bench.size(SIZES, QUICK_SIZES):
        group = f"T = {length:,}, width {width}, batch {batch}"
        args, state = arguments(width, batch), state_bytes(width, batch)
        doors = {"jax.grad": scan_loss(length), f"nested jax.checkpoint, {inner} steps": nested_scan_loss(length, inner)}
        if EQUINOX.skip:
            yield row("equinox", group, skipped=EQUINOX.skip)
        else:
            loops = EQUINOX.load("internal")
            doors |= {f"equinox, {c} checkpoints": equinox_scan(loops, length, c) for c in checkpoints}
        programs = []
        for name, loss in doors.items():
            bench.announce(f"{group}: {name}")
            programs.append(peer_program(name, gradient(loss), args))
        for states in (None, *budgets):
            name = "ours, no budget" if states is None else f"ours, {states:,} states"
            bench.announce(f"{group}: {name}")
            budget = None if states is None else states * state + output_bytes(args)
            programs.append(certified_program(name, scan_loss(length), args, budget, argnums=ARGNUMS))
        bench.announce(f"{group}: times")
        yield from compare_programs(programs, bench.size(ROUNDS, QUICK_ROUNDS), group, state)


@case("while", "A loop of unknown length, against equinox's checkpointed loop and diffrax's RecursiveCheckpointAdjoint")
def whiles(bench: Bench) -> Iterator[Row]:
    """The recurrent cell, with the number of steps as an argument. Each of our rows has the temporaries of the equinox row
    above it as its budget. Times are relative to jax.grad of a scan of the same length, which has to know that length."""
    length, width, batch, counts = bench.size((4096, 64, 16, (64, 16)), (64, 32, 16, (8,)))
    group = f"{length:,} steps, width {width}, batch {batch}"
    args, state = arguments(width, batch), state_bytes(width, batch)
    counted_args = (*args, jnp.int32(length))
    programs = [peer_program("jax.grad of the scan", gradient(scan_loss(length)), args)]
    for peer in (DIFFRAX, EQUINOX):
        if peer.skip:
            yield row(peer.name, group, skipped=peer.skip)
    for checkpoints in counts:
        budget = 2 * checkpoints * state
        if not DIFFRAX.skip:
            bench.announce(f"diffrax, {checkpoints} checkpoints")
            door = gradient(diffrax_steps(DIFFRAX.load(), checkpoints))
            programs.append(peer_program(f"diffrax, {checkpoints} checkpoints", door, counted_args))
        if not EQUINOX.skip:
            bench.announce(f"equinox, {checkpoints} checkpoints")
            door = gradient(equinox_while(EQUINOX.load("internal"), checkpoints))
            programs.append(peer_program(f"equinox, {checkpoints} checkpoints", door, counted_args))
            budget = compiled_memory(programs[-1].executable).temporary_bytes
        name = f"ours, {budget / state:,.0f} states"
        bench.announce(name)
        programs.append(certified_program(name, while_loop_loss, counted_args, budget + output_bytes(args), argnums=ARGNUMS))
    bench.announce("times")
    yield from compare_programs(programs, bench.size(ROUNDS, QUICK_ROUNDS), group, state)


@case("loop-compile", "Tracing, planning and compiling a scan of more and more steps")
def compile_times(bench: Bench) -> Iterator[Row]:
    """The time of a first compilation, the median of three, and its ratio to that of jax.grad of the scan."""
    width, batch = 64, 16
    args = arguments(width, batch)
    for length in bench.size((100, 10_000, 1_000_000), (100,)):
        doors = {"jax.grad": gradient(scan_loss(length))}
        for name, budget in (("no budget", None), ("64 states", 64 * state_bytes(width, batch) + output_bytes(args))):
            doors[name] = cg.value_and_grad(scan_loss(length), ARGNUMS, budget=budget)
        yield from first_compilations(doors, args, bench.size(3, 1), f"{length:,} steps", bench.announce)
