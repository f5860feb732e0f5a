"""Chains: where to cut a graph into stages, what crosses between them, and which stages are equal."""
