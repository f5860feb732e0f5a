"""Resident set: what the operating system counts while a program runs in a fresh process.

The compiled program is serialised and loaded by a new process, so that nothing else grows while it runs;
memory-profiler samples that process after a first call, whose code pages and threads stay. glibc's mmap threshold is held
down there: freed buffers go back to the system at once, where they would else stay on the heap and be counted.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import dtypes
from jax.experimental import serialize_executable

from ckptgrad.meters.meter import Reading, Subject, meter

_PROGRAM = Path(__file__).with_name("resident_process.py")
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
TIMEOUT_SECONDS = 600


@meter(
    "resident",
    label="resident set, fresh process",
    sees="every page that a call touches, the allocator's overhead and scratch inside library calls included",
    cannot_see="memory of accelerators; pages that are not touched; peaks shorter than the sampling interval of 1 ms; "
    "programs that call back into Python",
)
def resident(subject: Subject) -> Reading:
    """Peak bytes above the baseline taken after the arguments are loaded and the program has run once, and the samples of
    the call that reached it.
    """
    platform = subject.target.platform
    if not platform.host_memory:
        return Reading(None, f"arrays live in the memory of the {platform.name}, not in the resident set")
    if not isinstance(subject.executable, jax.stages.Compiled):
        return Reading(None, "it runs stage by stage from Python, and a fresh process is given one program")
    try:
        shardings = jax.tree.leaves((subject.executable.input_shardings, subject.executable.output_shardings))
    except ValueError:  # JAX counts captured references among the inputs
        return Reading(None, "the program captures a mutable reference, which a fresh process does not have")
    if any(len(s.device_set) > 1 for s in shardings):
        return Reading(None, "the program runs on several devices, and a process has one resident set for all of them")
    try:
        payload, in_tree, out_tree = serialize_executable.serialize(subject.executable)
    except Exception as error:  # whatever XLA or pickle object to in this program
        return Reading(None, f"the program cannot be serialised: {_first_line(error)}")
    job = {
        "payload": payload,
        "inputs": in_tree.num_leaves,
        "outputs": out_tree.num_leaves,
        "leaves": [_portable(x) for x in jax.tree.leaves((subject.args, subject.kwargs))],
        "config": {"jax_enable_x64": dtypes.canonicalize_dtype(np.float64) == np.float64},
    }
    with tempfile.TemporaryDirectory(prefix="ckptgrad-") as folder:
        path = Path(folder) / "job.pickle"
        path.write_bytes(pickle.dumps(job, protocol=pickle.HIGHEST_PROTOCOL))
        return _run(path)


def _run(path: Path) -> Reading:
    command = [sys.executable, "-P", str(_PROGRAM), str(path)]
    try:
        done = subprocess.run(
            command,
            check=False,
            env=os.environ | _ALLOCATOR,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Reading(None, f"the measuring process did not finish: {_first_line(error)}")
    if done.returncode:
        last = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        return Reading(None, f"the measuring process failed: {last}")
    answer = json.loads(done.stdout.splitlines()[-1])
    return Reading(answer["peak"], None, tuple((share, bytes_) for share, bytes_ in answer["samples"]))


def _portable(leaf: Any) -> tuple[str | None, Any]:
    """A leaf as (name of its key type or None, numpy array or Python scalar)."""
    if isinstance(leaf, (bool, int, float, complex)):
        return None, leaf
    if dtypes.issubdtype(leaf.dtype, dtypes.prng_key):
        return str(jax.random.key_impl(leaf)), np.asarray(jax.random.key_data(leaf))
    return None, np.asarray(leaf)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
