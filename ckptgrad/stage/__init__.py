"""One stage: its joint graph, and what may be kept of it."""
