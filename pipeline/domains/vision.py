"""Images with captions or questions: one pair a row."""

from pipeline.types import Domain

DOMAIN = Domain(name="vision", modality="vision", observation="", context=512)
