"""One policy a file; each registers itself with `@policy` and is found by `ckptgrad.planning.policy`."""
