"""What a chain costs: estimated, compiled, measured."""
