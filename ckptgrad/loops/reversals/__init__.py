"""The ways to reverse a loop, one per file; each registers itself with `@reversal` and is found by `reversals.reversal`."""
