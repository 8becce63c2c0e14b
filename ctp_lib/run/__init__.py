"""One notebook as one cell of the graph."""
