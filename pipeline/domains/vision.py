"""Images with captions or questions: one pair a row."""

from pipeline.types import Domain, Modality

DOMAIN = Domain(name="vision", title="Images with text", modality=Modality("vision"), context=512)
