"""Policies that play well: trained with Sample Factory, scripted, or planned by the BabyAI bot."""

import pipeline  # noqa: F401  (first of all: see pipeline.program)
