"""A policy that needs no expert, for collecting in tests."""

from pathlib import Path

import numpy as np

from pipeline.types import Observations, Task, VectorEnv


class RandomPolicy:
    """Uniform actions that depend on its seed alone."""

    name = "random"
    checksum = "0" * 64

    def __init__(self, seed: int) -> None:
        self.abandoned: dict[int, str] = {}
        self._rng = np.random.default_rng(seed)

    def bind(self, envs: VectorEnv) -> None:
        self._space = envs.action_space

    def act(
        self, observations: Observations, ids: np.ndarray, started: np.ndarray, rewards: np.ndarray
    ) -> np.ndarray:
        if hasattr(self._space, "n"):
            return self._rng.integers(self._space.n, size=len(ids))
        low, high = self._space.low, self._space.high
        return self._rng.uniform(low, high, (len(ids), len(low))).astype(np.float32)


class Quitter(RandomPolicy):
    """Gives up the second episode of environment 0."""

    def bind(self, envs: VectorEnv) -> None:
        super().bind(envs)
        self._episodes = 0

    def act(
        self, observations: Observations, ids: np.ndarray, started: np.ndarray, rewards: np.ndarray
    ) -> np.ndarray:
        self._episodes += int(started[ids == 0].sum())
        self.abandoned = {0: "lost heart"} if self._episodes == 2 else {}
        return super().act(observations, ids, started, rewards)


def load(task: Task, folder: Path, seed: int, threads: int) -> RandomPolicy:
    return RandomPolicy(seed)


def load_quitter(task: Task, folder: Path, seed: int, threads: int) -> RandomPolicy:
    return Quitter(seed)
