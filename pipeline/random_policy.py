"""The policies that know nothing: uniform random actions, and no action at all."""

import numpy as np

from pipeline.seeds import sequence
from pipeline.types import Observations, VectorEnv


class RandomPolicy:
    """Every action of the action space is equally likely.

    Each environment draws from a generator of its own, so what it does depends neither on which
    others are still playing nor on how many there are.
    """

    name = "random"
    checksum = "0" * 64

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.abandoned: dict[int, str] = {}

    def bind(self, envs: VectorEnv) -> None:
        """One generator an environment."""
        self._space = envs.action_space
        self._generators = [
            np.random.default_rng(sequence(self.seed, "random", env))
            for env in range(envs.num_envs)
        ]

    def act(
        self, observations: Observations, ids: np.ndarray, started: np.ndarray, rewards: np.ndarray
    ) -> np.ndarray:
        """int64 (n,) or float32 (n, dims)."""
        generators = [self._generators[env] for env in ids]
        if hasattr(self._space, "n"):
            return np.array([rng.integers(self._space.n) for rng in generators])
        low, high = self._space.low, self._space.high
        return np.stack([rng.uniform(low, high) for rng in generators]).astype(np.float32)


class NoopPolicy:
    """Does nothing: the action 0, which in games stands for no button, or numbers that are all 0.

    Where no action does nothing, it is still the play of one who never looks.
    """

    name = "noop"
    checksum = "0" * 64

    def __init__(self) -> None:
        self.abandoned: dict[int, str] = {}

    def bind(self, envs: VectorEnv) -> None:
        """Remember what actions look like."""
        space = envs.action_space
        self._action = (
            0 if hasattr(space, "n") else np.clip(np.zeros(space.shape), space.low, space.high)
        )

    def act(
        self, observations: Observations, ids: np.ndarray, started: np.ndarray, rewards: np.ndarray
    ) -> np.ndarray:
        """int64 (n,) or float32 (n, dims)."""
        if isinstance(self._action, int):
            return np.zeros(len(ids), np.int64)
        return np.repeat(self._action[None].astype(np.float32), len(ids), axis=0)
