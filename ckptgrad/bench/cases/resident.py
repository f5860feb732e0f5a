"""Certified peaks against what the operating system counts in a fresh process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax

from ckptgrad.bench.measure import Program, ours, theirs
from ckptgrad.bench.models import gelu_stack, mixer, resnet, tanh_chain, transformer, unet
from ckptgrad.bench.recurrent import arguments, recurrent
from ckptgrad.bench.registry import Bench, case
from ckptgrad.bench.rows import Row, row
from ckptgrad.meters import resident as meter
from ckptgrad.meters.xla import compiled_memory

AGREE_SHARE, AGREE_BYTES = 0.1, 64 * 2**20

Made = tuple[Callable, tuple[Any, ...]]
MODELS: dict[str, Callable[[], Made]] = {
    "tanh layers": tanh_chain,
    "GELU layers": gelu_stack,
    "transformer": transformer,
    "ResNet": partial(resnet, batch=32),
    "U-Net": partial(unet, width=32, size=128, batch=8),
    "mixer": partial(mixer, batch=128),
    "scan, 65,536 steps": lambda: (recurrent(65_536), arguments(32, 8)),
}
QUICK_MODELS: dict[str, Callable[[], Made]] = {"tanh layers": partial(tanh_chain, layers=4, width=32, batch=512)}


@case("resident", "Certified peaks against the resident set of a fresh process")
def resident(bench: Bench) -> Iterator[Row]:
    """Bytes beyond the arguments: certified by XLA's buffer assignment, and the growth of the resident set while the program
    runs in a process of its own. They agree if they differ by no more than 10 % and 64 MiB. "Middle" is a budget in the
    geometric mean of the smallest peak and that without a budget."""
    for name, make in bench.size(MODELS, QUICK_MODELS).items():
        loss, args = make()
        for program in programs(loss, args, lambda run, name=name: bench.doing(f"{name}: {run}")):
            bench.doing(f"{name}: {program.run}, in a process of its own")
            certified = compiled_memory(program.executable).peak_bytes
            reading = meter.measure(program.executable, args, {})
            if reading.bytes is None:
                yield row(program.run, name, certified_bytes=certified, note=reading.reason or "")
                continue
            off = reading.bytes - certified
            yield row(
                program.run,
                name,
                certified_bytes=certified,
                resident_bytes=reading.bytes,
                off_share=off / certified,
                agree=abs(off) <= AGREE_SHARE * certified + AGREE_BYTES,
            )


def programs(loss: Callable, args: tuple[Any, ...], doing: Callable[[str], None]) -> Iterator[Program]:
    """jax.grad, and three budgets."""
    doing("jax.grad")
    yield theirs("jax.grad", jax.value_and_grad(loss), args)
    doing("no budget")
    free = ours("no budget", loss, args)
    yield free
    doing("smallest")
    smallest = ours("smallest", loss, args, "min")
    peaks = [compiled_memory(program.executable).peak_bytes for program in (free, smallest)]
    doing("middle")
    yield ours("middle", loss, args, math.isqrt(peaks[0] * peaks[1]))
    yield smallest
