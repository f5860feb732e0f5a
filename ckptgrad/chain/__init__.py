"""Chains: stages, where to cut, what to keep, what it costs."""
