"""A policy that needs no expert, for collecting in tests."""

import os
import signal
import time
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


class Mortal(RandomPolicy):
    """Kills its process in the middle of the first shard that any process plays."""

    def __init__(self, seed: int, folder: Path) -> None:
        super().__init__(seed)
        self._mark, self._steps = folder / "died", 0

    def act(
        self, observations: Observations, ids: np.ndarray, started: np.ndarray, rewards: np.ndarray
    ) -> np.ndarray:
        self._steps += 1
        if self._steps == 5 and not self._mark.exists():
            self._mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().act(observations, ids, started, rewards)


class Located(RandomPolicy):
    """Counts the shards of each of two Ray nodes; the ``doomed`` one never ends its second.

    The other one does not begin its second before, so that both have work to share.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        super().__init__(seed)
        self._folder = folder

    def bind(self, envs: VectorEnv) -> None:
        import ray

        super().bind(envs)
        node = ray.get_runtime_context().get_node_id()
        with (self._folder / f"node-{node}").open("a") as shards:
            shards.write("x")
        while not self._may_play(node):
            time.sleep(0.01)

    def _may_play(self, node: str) -> bool:
        begun = {path.name: path.stat().st_size for path in self._folder.glob("node-*")}
        if len(begun) < 2 or begun[f"node-{node}"] == 1:
            return len(begun) == 2
        doomed = (self._folder / "doomed").read_text()
        return node != doomed and begun[f"node-{doomed}"] == 2


def load(task: Task, folder: Path, seed: int, threads: int) -> RandomPolicy:
    return RandomPolicy(seed)


def load_quitter(task: Task, folder: Path, seed: int, threads: int) -> RandomPolicy:
    return Quitter(seed)


def load_mortal(task: Task, folder: Path, seed: int, threads: int) -> RandomPolicy:
    return Mortal(seed, folder)


def load_located(task: Task, folder: Path, seed: int, threads: int) -> RandomPolicy:
    return Located(seed, folder)
