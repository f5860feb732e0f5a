"""`python -m tests.fuzz --programs 5000 --seed 0`: how many programs agree, and the smallest ones near those that do not."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("CKPTGRAD_CACHE", "off")

import jax

from tests.fuzz.search import FAILED, minimised, searched


def main() -> int:
    """Search, print finds as source, return 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--programs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0, help="of the first program; the next has the next")
    parser.add_argument("--shrink", type=float, default=60.0, help="seconds to make a find smaller")
    parser.add_argument("--compiled-each", type=int, default=100, help="one in so many programs is compiled, too")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    start = time.monotonic()
    with jax.enable_x64(True):
        for find in searched(range(options.seed, options.seed + options.programs), compiled_each=options.compiled_each):
            counts[find.verdict.kind] += 1
            if find.verdict.kind in FAILED:
                print(minimised(find, options.shrink) if options.shrink else find, flush=True)
            if sum(counts.values()) % 100 == 0:
                print(f"# to seed {find.seed}: {dict(counts)}, {time.monotonic() - start:.0f} s", flush=True)
    print(
        f"# seeds {options.seed} to {options.seed + options.programs - 1}: {dict(counts)}, {time.monotonic() - start:.0f} s"
    )
    return int(any(counts[kind] for kind in FAILED))


if __name__ == "__main__":
    sys.exit(main())
