"""Stages that are killed, run out of disk or run twice at once: what must come of it."""
