"""How results are written: numbers, and apart from them what they cost and where they were made; tidy tables; recorded runs."""
