"""What a model is worth, with or without something that repairs it: perplexity, continuations, tasks."""
