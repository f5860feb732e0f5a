"""One policy per file; each registers itself with `@policy` and discovered by `ckptgrad.planning.policy`."""
