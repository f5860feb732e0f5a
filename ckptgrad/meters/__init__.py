"""How peak memory is measured: one file per meter, each with what it sees and what it cannot see."""
