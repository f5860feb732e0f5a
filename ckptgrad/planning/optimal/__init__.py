"""The optimal policy: recurrences, exact curves, exhaustive search."""
