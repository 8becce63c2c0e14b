"""One file a claim: its table, its figure, its verdict."""
