"""The benchmark book: every figure that the documentation shows, measured by `ckptgrad bench`.

A case is one decorated function in one file of `cases/`, and yields rows of plain data. Each case runs in its own process
(`runner`, `worker`), so that its memory and configuration do not affect the next. The results form a book, a JSON file that
any run can add to (`book`), shown as tables (`tables`) and pictures (`shown`).
Besides `validation`, this is the only part of the library that calls JAX's own differentiation: it is what we compare with.
"""
