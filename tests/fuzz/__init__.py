"""A differential fuzzer: random programs, differentiated by this engine and by JAX.

In `program`, a program is data that can be printed as source and made smaller. `vocabulary`, `loops` and `rules` list what
programs consist of, one row per kind of statement, and `generate` draws from them. `doors` differentiates a program with
both engines; `interpret` evaluates the results operation by operation, in a tenth of the time that compiling takes.

    python -m tests.fuzz --programs 5000 --seed 0
"""
