"""One policy per file; each registers itself with `@policy`; `ckptgrad.planning.policy` searches this folder."""
