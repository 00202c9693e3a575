"""JAT: the model, its training and its evaluation."""
