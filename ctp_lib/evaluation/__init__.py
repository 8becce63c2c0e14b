"""How good a model is, with or without a repair: perplexity, continuations, tasks."""
