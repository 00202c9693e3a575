"""Text corpora: one document a row."""

from pipeline.types import Domain, Modality

DOMAIN = Domain(name="text", title="Text", modality=Modality("text"), context=512)
