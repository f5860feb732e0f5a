"""What figures show, as plain data: once for each figure, whichever library draws it."""
