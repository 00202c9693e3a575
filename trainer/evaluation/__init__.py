"""A trained JAT at play, and what its scores say."""
