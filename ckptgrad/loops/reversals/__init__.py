"""The ways to reverse a loop, one per file."""
