"""The transformer in eager torch, with and without torch.utils.checkpoint, beside jax.grad and ours."""

from __future__ import annotations

import os
import pickle
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np

from ckptgrad.bench import torch_transformer
from ckptgrad.bench.cases.chains import MODELS
from ckptgrad.bench.measure import certified_program, peer_program
from ckptgrad.bench.peers import TORCH_CPU
from ckptgrad.bench.registry import Bench, case
from ckptgrad.bench.rows import Row, row
from ckptgrad.meters.meter import Subject
from ckptgrad.meters.resident import resident
from ckptgrad.target.allocated import compiled_memory
from ckptgrad.target.attached import attached
from ckptgrad.validation.compare import difference
from ckptgrad.validation.timing import alternate, median_ratio

ROUNDS = 7
HEADS = 4
MODEL = MODELS["transformer"]
BUDGETS = ("0.5x", "0.25x")
# As in the resident meter: freed memory goes back to the system at once.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


@case("torch", "The transformer against torch in eager mode, with and without torch.utils.checkpoint, on the CPU")
def torch(bench: Bench) -> Iterator[Row]:
    """The same parameters and shapes; torch uses its own kernels for layer norm, softmax and GELU, and one thread per core.
    Memory is the growth of the resident set, measured in a separate process for each row; times are interleaved in one
    process; "difference" is between the gradients and jax.grad's."""
    platform = attached().platform.name
    if platform != "cpu":
        yield row("torch", skipped=f"torch's CPU build is compared on a CPU only; JAX runs on the {platform}")
        return
    loss, args = MODEL(bench)
    bench.announce("jax.grad")
    programs = [peer_program("jax.grad", jax.value_and_grad(loss), args)]
    bench.announce("jax.checkpoint")
    programs.append(peer_program("jax.checkpoint", jax.value_and_grad(MODEL(bench, wrap=jax.checkpoint)[0]), args))
    for budget in (None, *bench.size(BUDGETS, ())):
        run = "ours, no budget" if budget is None else f"ours, {budget}"
        bench.announce(run)
        programs.append(certified_program(run, loss, args, budget))
    calls: dict[str, Callable[[], Any]] = {p.run: (lambda p=p: p.executable(*p.args)) for p in programs}
    jobs = {} if TORCH_CPU.skip else torch_jobs(args)
    calls |= {run: torch_transformer.gradient(**job) for run, job in jobs.items()}
    bench.announce("times")
    seconds = dict(zip(calls, alternate(list(calls.values()), bench.size(ROUNDS, 1)), strict=True))
    expected = jax.tree.leaves(calls["jax.grad"]()[1])
    for run, call in calls.items():
        bench.announce(f"{run}, in its own process")
        program = next((p for p in programs if p.run == run), None)
        if program is None:
            memory: dict[str, Any] = {"resident_bytes": torch_resident_bytes(jobs[run])}
        else:
            reading = resident(Subject(program.executable, attached(), program.args))
            certified = compiled_memory(program.executable).peak_bytes
            memory = {"certified_bytes": certified, "resident_bytes": reading.bytes, "note": reading.reason or ""}
        yield row(
            run,
            **memory,
            time_ratio=median_ratio(seconds[run], seconds["jax.grad"]),
            run_seconds=statistics.median(seconds[run]),
            difference=difference(list(map(np.asarray, jax.tree.leaves(call()[1]))), expected).relative,
        )
    if TORCH_CPU.skip:
        yield row("torch", skipped=TORCH_CPU.skip)


def torch_jobs(args: tuple[Any, ...]) -> dict[str, dict[str, Any]]:
    """The arguments of `torch_transformer.gradient` for each of torch's rows."""
    params, tokens = jax.tree.map(np.asarray, args)
    shared = {"params": params, "tokens": tokens, "heads": HEADS}
    return {
        "torch, eager": shared | {"checkpointed": False},
        "torch.utils.checkpoint, every block": shared | {"checkpointed": True},
    }


def torch_resident_bytes(job: dict[str, Any]) -> int:
    """The peak of the resident set, measured in a separate process."""
    with TemporaryDirectory(prefix="ckptgrad-") as folder:
        path = Path(folder) / "job.pickle"
        path.write_bytes(pickle.dumps(job, protocol=pickle.HIGHEST_PROTOCOL))
        command = [sys.executable, "-P", torch_transformer.__file__, str(path)]
        done = subprocess.run(command, check=True, env=os.environ | ALLOCATOR, capture_output=True, text=True)
    return int(done.stdout.split()[-1])
