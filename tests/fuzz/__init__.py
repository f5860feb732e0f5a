"""A differential fuzzer: random programs, differentiated by this engine and by JAX.

`program` is what a program is: data that is printed as source, and made smaller.  `vocabulary`, `loops` and `rules` say what
stands in programs, a row for each kind of statement; `generate` draws them.  `doors` differentiates a program both ways;
`interpret` evaluates what comes out, operation by operation, which takes a tenth of the time that compiling takes.

    python -m tests.fuzz --programs 5000 --seed 0
"""
