"""`python -m tests.fuzz --programs 5000 --seed 0`: how many programs agree; those that do not are made small and printed."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("CKPTGRAD_CACHE", "off")

import jax

from tests.fuzz.search import FAILED, minimise, search


def main() -> int:
    """Search, print findings as source, and return 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--programs", type=int, default=5000)
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the first program; each further program has the next seed"
    )
    parser.add_argument("--shrink", type=float, default=60.0, help="seconds spent on making a finding smaller")
    parser.add_argument("--compile-every", type=int, default=100, help="also compile every N-th program", metavar="N")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    start = time.monotonic()
    with jax.enable_x64(True):
        for finding in search(range(options.seed, options.seed + options.programs), compile_every=options.compile_every):
            counts[finding.verdict.kind] += 1
            if finding.verdict.kind in FAILED:
                print(minimise(finding, options.shrink) if options.shrink else finding, flush=True)
            if sum(counts.values()) % 100 == 0:
                print(f"# to seed {finding.seed}: {dict(counts)}, {time.monotonic() - start:.0f} s", flush=True)
    print(
        f"# seeds {options.seed} to {options.seed + options.programs - 1}: {dict(counts)}, {time.monotonic() - start:.0f} s"
    )
    return int(any(counts[kind] for kind in FAILED))


if __name__ == "__main__":
    sys.exit(main())
