"""How peak memory is measured: one file a meter, each with what it sees and what it cannot see."""
