"""Word lists: stop words and flagged words, `<kind>_<ISO 639 code>.txt`, a word a line."""
