"""JAT: the model, its training and its evaluation."""

import os

import pipeline  # noqa: F401  (first of all: see pipeline.program)

# Before torch loads its threads: by default they spin while they wait for each other, and where
# another process wants a core that makes a training step ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
