"""One training run: its parts, its loop and what follows it."""
