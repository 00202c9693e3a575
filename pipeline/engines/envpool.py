"""EnvPool behind the ``VectorEnv`` contract: C++ batched stepping, same-step resets."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipeline.types import Observations, Step, check_seeds


class EnvPoolEnv:
    """``len(seeds)`` EnvPool environments of one id, each with a seed of its own.

    EnvPool resets a finished environment on the step after; here the finished ones are reset
    within the step, so every row of every step is a real transition.
    """

    def __init__(
        self,
        env_id: str,
        seeds: Sequence[int],
        observe: Callable[[Any], Observations],
        *,
        threads: int = 1,
        info: Sequence[str] = (),
        **config: Any,
    ) -> None:
        """``observe`` maps EnvPool's observation to dataset columns; ``info`` names kept keys."""
        import envpool

        seeds = check_seeds(seeds)
        self.num_envs = len(seeds)
        self.seeds = seeds
        self.pool: Any = envpool.make_gymnasium(
            env_id, num_envs=self.num_envs, seed=seeds, num_threads=threads, **config
        )
        self._observe = observe
        self._info = tuple(info)
        self.action_space = self.pool.action_space
        self.observation_space = self.pool.observation_space
        self._box = hasattr(self.action_space, "low")

    def reset(self) -> Observations:
        """Start an episode everywhere."""
        observations, _ = self.pool.reset()
        return self._observe(observations)

    def step(self, actions: np.ndarray, ids: np.ndarray | None = None) -> Step:
        """Step the environments ``ids`` (all when ``None``)."""
        self.send(actions, self.pool.all_env_ids if ids is None else ids)
        return self.recv()

    def send(self, actions: np.ndarray, ids: np.ndarray) -> None:
        """Begin to step the environments ``ids``; nothing else may be under way."""
        if self._box:
            actions = np.clip(actions, self.action_space.low, self.action_space.high)
            actions = actions.astype(np.float32, copy=False)
        self._sent = actions, ids
        self.pool.send(actions, ids)

    def recv(self) -> Step:
        """The step that was sent, its finished environments reset."""
        actions, ids = self._sent
        observations, rewards, terminated, truncated, info = self.pool.recv()
        columns = self._observe(observations)
        ended = np.flatnonzero(terminated | truncated)
        finals = {name: rows[ended] for name, rows in columns.items()}
        if len(ended):
            # A step resets a finished environment, whatever the action. ``reset`` would also
            # end an Atari game of which only one life was lost.
            first, *_ = self.pool.step(actions[ended], ids[ended])
            for name, rows in self._observe(first).items():
                columns[name][ended] = rows
        return Step(
            columns,
            actions,
            rewards.astype(np.float32, copy=False),
            terminated,
            truncated & ~terminated,
            finals,
            {key: info[key] for key in self._info},
        )

    def render(self, env: int = 0) -> np.ndarray:
        """RGB picture of one environment, uint8 (H, W, 3); needs ``render_mode="rgb_array"``."""
        return self.pool.render(env_ids=env)[0]

    def close(self) -> None:
        """Free the environments, and give their memory back to the system."""
        self.pool.close()
        self.pool = None
        _trim()


def _trim() -> None:
    """Return freed memory, where the C library can.

    glibc keeps what other threads allocated: a process that trained one Meta-World task after the
    other would grow by a gigabyte each time.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def continuous(observations: np.ndarray) -> Observations:
    """float32 ``continuous_observations``."""
    return {"continuous_observations": observations.astype(np.float32)}
