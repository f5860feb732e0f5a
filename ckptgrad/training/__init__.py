"""A deep byte-level transformer, trained on real text under a memory budget: `ckptgrad train`."""
