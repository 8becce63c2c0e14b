"""What a model, with or without a prompt, is worth."""
