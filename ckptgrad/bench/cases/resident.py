"""Certified peaks against what the operating system reports for a fresh process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax

from ckptgrad.bench.measure import Program, certified_program, peer_program
from ckptgrad.bench.recurrent import arguments, scan_loss
from ckptgrad.bench.registry import Bench, case
from ckptgrad.bench.rows import Row, row
from ckptgrad.example_models import Problem, gelu_stack, mixer, resnet, tanh_chain, transformer, unet
from ckptgrad.meters.meter import Subject, get_meters
from ckptgrad.target.allocated import compiled_memory
from ckptgrad.target.attached import attached

AGREE_SHARE, AGREE_BYTES = 0.1, 64 * 2**20

MODELS: dict[str, Callable[[], Problem]] = {
    "tanh layers": tanh_chain,
    "GELU layers": gelu_stack,
    "transformer": transformer,
    "ResNet": partial(resnet, batch=32),
    "U-Net": partial(unet, width=32, size=128, batch=8),
    "mixer": partial(mixer, batch=128),
    "scan, 4,096 steps": lambda: (scan_loss(4096), arguments(256, 64)),
}
# At its smallest peak a scan would restart from its beginning for every step.
LEAST_BUDGETS = {"scan, 4,096 steps": "8MiB"}
QUICK_MODELS: dict[str, Callable[[], Problem]] = {"tanh layers": partial(tanh_chain, layers=4, width=32, batch=512)}


@case("resident", "Certified peaks against what is observed while the program runs")
def resident(bench: Bench) -> Iterator[Row]:
    """Bytes beyond the arguments: those certified by XLA's buffer assignment, and the growth of the resident set while the
    program runs in its own process (on an accelerator, of the device's own counter). They agree if they differ by at most
    10 % plus 64 MiB. The budget of "middle" is the geometric mean of the smallest peak (8 MiB for the scan) and the peak
    without a budget."""
    (meter,) = get_meters("resident" if attached().platform.host_memory else "device")
    for name, make in bench.size(MODELS, QUICK_MODELS).items():
        loss, args = make()
        bench.announce(name)
        for program in programs(loss, args, LEAST_BUDGETS.get(name, "min")):
            bench.announce(f"{name}: {program.run}, {meter.label}")
            certified = compiled_memory(program.executable).peak_bytes
            reading = meter(Subject(program.executable, attached(), args))
            values: dict[str, Any] = {"certified_bytes": certified, "note": reading.reason or ""}
            if reading.bytes is not None:
                off = reading.bytes - certified
                agree = abs(off) <= AGREE_SHARE * certified + AGREE_BYTES
                values |= {f"{meter.name}_bytes": reading.bytes, "off_share": off / certified, "agree": agree}
            yield row(program.run, name, **values)


def programs(loss: Callable, args: tuple[Any, ...], least_budget: str) -> Iterator[Program]:
    """Three budgets and jax.grad, in order of growing peaks, because a device's counter remembers only the largest."""
    smallest, free = certified_program("smallest", loss, args, least_budget), certified_program("no budget", loss, args)
    least, most = (compiled_memory(program.executable).peak_bytes for program in (smallest, free))
    yield smallest
    yield certified_program("middle", loss, args, math.isqrt(least * most))
    yield free
    yield peer_program("jax.grad", jax.value_and_grad(loss), args)
