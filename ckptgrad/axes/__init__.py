"""Which axes of a graph may be cut into chunks: how primitives pass a cut axis on, and what follows for their graph."""
