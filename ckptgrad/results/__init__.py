"""What planning, timing and validating give, as plain data."""
