"""From policies and sources to a published dataset."""

import pipeline  # noqa: F401  (first of all: see pipeline.program)
