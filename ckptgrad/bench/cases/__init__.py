"""The cases: each file registers its own with `@case`, and `ckptgrad.bench.registry` discovers the files."""
