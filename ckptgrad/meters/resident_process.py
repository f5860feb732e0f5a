"""The fresh process of the resident meter: load a program, run it, print its peak and its course.

Run as a script; imports JAX only inside `main`, because memory-profiler's own sampling process imports this
file again.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import pickle
import sys
import time
from typing import Any

from memory_profiler import memory_usage

INTERVAL_SECONDS = 0.001
LEAST_SECONDS = 0.25  # short programs run again and again, so that sampling meets their peak
REST_SECONDS = 0.005  # between runs, so that the results of one are given back before the next starts
SETTLE_SECONDS, SETTLED_MIB = 0.2, 0.5  # the baseline falls by less than this in that time
MIB = 2**20


def load(path: str) -> tuple[Any, list[Any]]:
    """The program of a job file and its arguments, on the device."""
    import jax
    from jax.experimental import serialize_executable

    with open(path, "rb") as file:
        job = pickle.load(file)
    for name, value in job["config"].items():
        jax.config.update(name, value)
    trees = (tuple([0] * job["inputs"]), {}), [0] * job["outputs"]
    program = serialize_executable.deserialize_and_load(job["payload"], *map(jax.tree.structure, trees))
    leaves = []
    for key_type, value in job["leaves"]:
        if key_type is not None:
            value = jax.random.wrap_key_data(value, impl=key_type)
        leaves.append(value if isinstance(value, (bool, int, float, complex)) else jax.device_put(value))
    return program, jax.block_until_ready(leaves)


def settled() -> float:
    """The resident MiB, once the system has taken back what a call freed: that goes on after its results are ready."""
    before = float("inf")
    while True:
        now = memory_usage(-1, interval=SETTLE_SECONDS / 10, timeout=SETTLE_SECONDS, max_usage=True)
        if now > before - SETTLED_MIB:
            return now
        before = now


def main(path: str) -> None:
    """Print the peak above the baseline in bytes, and the samples of the run that reached it, as JSON."""
    import jax

    program, leaves = load(path)
    jax.block_until_ready(program(*leaves))  # pages in the program's and the runtime's code
    runs: list[tuple[float, float]] = []

    def run() -> None:
        start = time.time()
        while True:
            begun = time.time()
            results = jax.block_until_ready(program(*leaves))
            runs.append((begun, time.time()))
            if time.time() - start > LEAST_SECONDS:
                break
            del results
            time.sleep(REST_SECONDS)

    gc.collect()
    multiprocessing.set_start_method("spawn")
    before = settled()
    task: Any = (run, ())
    during = memory_usage(task, interval=INTERVAL_SECONDS, timestamps=True)
    peak, at = max(during)
    begun, ended = max((r for r in runs if r[0] <= at), default=runs[0])
    inside = [(t, m) for m, t in during if begun <= t <= ended]
    samples = [((t - begun) / (ended - begun), int((m - before) * MIB)) for t, m in inside]
    print(json.dumps({"peak": int((peak - before) * MIB), "samples": samples}))


if __name__ == "__main__":
    main(sys.argv[1])
