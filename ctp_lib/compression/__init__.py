"""A level applied to a model: recipes, the joint pass, a second GPTQ backend, and what the result takes to store."""
