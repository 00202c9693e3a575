"""Seeds that depend on what is computed, never on who computes it or when."""

import zlib

import numpy as np


def sequence(seed: int, *keys: str | int) -> np.random.SeedSequence:
    """The seed sequence of one unit of work, such as ``sequence(seed, task.id, shard)``."""
    words = [key if isinstance(key, int) else zlib.crc32(key.encode()) for key in keys]
    return np.random.SeedSequence((seed, *words))


def env_seeds(seed: int, *keys: str | int, count: int) -> list[int]:
    """``count`` environment seeds in [0, 2^31) for one unit of work."""
    return [int(word >> 1) for word in sequence(seed, *keys).generate_state(count, np.uint32)]
