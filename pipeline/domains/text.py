"""Text corpora: one document a row."""

from pipeline.types import Domain

DOMAIN = Domain(name="text", modality="text", observation="", context=512)
