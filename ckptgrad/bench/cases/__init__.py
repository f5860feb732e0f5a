"""The cases: each file registers its own with `@case` and is found by `ckptgrad.bench.registry`."""
