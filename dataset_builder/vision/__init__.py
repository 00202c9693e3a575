"""Images with texts: rendered grid worlds, and image corpora from the Hub, the web or a folder."""
