"""A causal LM, and how it is asked."""
