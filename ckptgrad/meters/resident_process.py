"""The fresh process of the resident meter: load a program, run it, print its peak in bytes.

Run as a script; imports JAX only inside `main`, because memory-profiler's own sampling process imports this
file again.
"""

from __future__ import annotations

import gc
import multiprocessing
import pickle
import sys
import time
from typing import Any

from memory_profiler import memory_usage

INTERVAL_SECONDS = 0.001
LEAST_SECONDS = 0.25  # short programs run again and again, so that sampling meets their peak
REST_SECONDS = 0.005  # between runs, so that the results of one are given back before the next starts
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


def main(path: str) -> None:
    """Print the peak above the baseline, in bytes."""
    import jax

    program, leaves = load(path)
    jax.block_until_ready(program(*leaves))  # pages in the program's and the runtime's code

    def run() -> None:
        start = time.perf_counter()
        while True:
            results = jax.block_until_ready(program(*leaves))
            if time.perf_counter() - start > LEAST_SECONDS:
                break
            del results
            time.sleep(REST_SECONDS)

    gc.collect()
    multiprocessing.set_start_method("spawn")
    before = memory_usage(-1, interval=INTERVAL_SECONDS, timeout=0.02, max_usage=True)
    task: Any = (run, ())
    during = memory_usage(task, interval=INTERVAL_SECONDS, max_usage=True)
    print(int((during - before) * MIB))


if __name__ == "__main__":
    main(sys.argv[1])
