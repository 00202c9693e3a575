"""JAT's files as the Hub serves them: they need torch, Transformers and each other only."""
