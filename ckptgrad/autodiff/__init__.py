"""The reverse engine: gradients of graphs by the back-propagation algorithm."""
