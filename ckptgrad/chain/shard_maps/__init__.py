"""A `shard_map` taken apart: a chain of `shard_map`s, and loops around them, which can be planned.

`split` says which are taken apart, `parts` traces the parts, and `lying` says how what crosses between them lies outside.
"""
