"""The computational graph: variables, operations, tracing, evaluation."""
