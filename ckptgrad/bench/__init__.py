"""The benchmark book: every figure that the documentation shows, measured by `ckptgrad bench`.

A case is one decorated function in one file of `cases/`; it yields rows of plain data. Each case runs in a process of its
own (`runner`, `worker`), so that memory and configuration of one do not reach another; the results of a book are a JSON
file that any run can add to (`book`), and are shown as tables (`tables`) and pictures (`pictures`).
The only part of the library besides `validation` that calls JAX's own differentiation: to be compared with it.
"""
