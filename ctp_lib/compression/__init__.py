"""A level applied to a model: one file a method, what the result takes to store, and compressed models on disk."""
