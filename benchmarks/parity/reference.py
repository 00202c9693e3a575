"""The reference implementations as ``VectorEnv``: Gymnasium, ale-py, metaworld and minigrid."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

import gymnasium
import numpy as np

from pipeline.domains.metaworld import make_one
from pipeline.engines import pusher
from pipeline.types import Observations, Step, Task, check_seeds

Columns = Callable[[list[Any]], Observations]


class ReferenceEnvs:
    """Gymnasium environments stepped one after the other; resets happen within the step."""

    def __init__(
        self,
        envs: list[Any],
        seeds: Sequence[int],
        columns: Columns,
        *,
        episode_seed: Callable[[int, int], int | None] | None = None,
        limit: int | None = None,
    ) -> None:
        """``columns`` stacks observations; ``episode_seed(slot's seed, episode)`` seeds resets."""
        self.envs, self.seeds, self.num_envs = envs, check_seeds(seeds), len(envs)
        self.limit = limit
        self._columns = columns
        self._episode_seed = episode_seed or (lambda seed, episode: None if episode else seed)
        self._episodes = [0] * self.num_envs
        self._steps = [0] * self.num_envs
        self.observation_space = envs[0].observation_space
        self.action_space = envs[0].action_space
        self._box = hasattr(self.action_space, "low")

    def reset(self) -> Observations:
        """Start every slot's first episode."""
        self._episodes = [0] * self.num_envs
        return self._columns([self._start(slot) for slot in range(self.num_envs)])

    def step(self, actions: np.ndarray, ids: np.ndarray | None = None) -> Step:
        """Step the environments ``ids``, all when ``None``."""
        slots = np.arange(self.num_envs) if ids is None else ids
        if self._box:
            actions = np.clip(actions, self.action_space.low, self.action_space.high)
            actions = actions.astype(np.float32)
        rewards = np.zeros(len(slots), np.float32)
        terminated, truncated = np.zeros((2, len(slots)), bool)
        success = np.zeros(len(slots), bool)
        seen, finals = [], []
        for row, slot in enumerate(slots.tolist()):
            action = actions[row] if self._box else int(actions[row])
            observation, rewards[row], done, late, info = self.envs[slot].step(action)
            self._steps[slot] += 1
            late = late or self._steps[slot] == self.limit
            terminated[row], truncated[row] = done, late and not done
            success[row] = info.get("success", 0.0) > 0.5
            if done or late:
                finals.append(observation)
                self._episodes[slot] += 1
                observation = self._start(slot)
            seen.append(observation)
        columns = self._columns(seen)
        ends = self._columns(finals) if finals else {key: columns[key][:0] for key in columns}
        return Step(columns, actions, rewards, terminated, truncated, ends, {"success": success})

    def close(self) -> None:
        """Free the environments."""
        for env in self.envs:
            env.close()

    def _start(self, slot: int) -> Any:
        self._steps[slot] = 0
        seed = self._episode_seed(self.seeds[slot], self._episodes[slot])
        with redirect_stdout(None):  # minigrid prints its rejected attempts
            return self.envs[slot].reset(seed=seed)[0]


def continuous(rows: list[np.ndarray]) -> Observations:
    """float32 ``continuous_observations``."""
    return {"continuous_observations": np.stack(rows).astype(np.float32)}


def images(rows: list[np.ndarray]) -> Observations:
    """uint8 ``image_observations`` (n, 4, 84, 84), oldest frame first."""
    return {"image_observations": np.stack([np.asarray(row) for row in rows])}


def mujoco(task: Task, seeds: Sequence[int]) -> ReferenceEnvs:
    """Gymnasium's own environments, of the version that the task names."""
    envs = [mujoco_env(task) for _ in seeds]
    return ReferenceEnvs(envs, seeds, continuous)


def mujoco_env(task: Task) -> Any:
    """One environment of Gymnasium with its time limit."""
    if task.id == "mujoco-pusher":
        return pusher.make_one(None, task.time_limit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls v4 outdated: the data's version is
        return gymnasium.make(task.gymnasium_id, disable_env_checker=True)


def metaworld(task: Task, seeds: Sequence[int]) -> ReferenceEnvs:
    """Meta-World's own environments with the goal visible, a fresh one at each reset."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        envs = [make_one(task, True, None) for _ in seeds]
    return ReferenceEnvs(envs, seeds, continuous, limit=task.time_limit)


def metaworld_env(task: Task, seed: int) -> Any:
    """One environment of the package, without wrappers, its drawing of goals seeded."""
    env: Any = make_one(task, True, None).unwrapped
    env.seed(seed)
    return env


def babyai(task: Task, seeds: Sequence[int]) -> ReferenceEnvs:
    """minigrid's own levels; episodes are seeded as the project's minigrid engine seeds them."""
    from pipeline.engines.minigrid import columns, episode_seed

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        envs = [gymnasium.make(task.gymnasium_id, disable_env_checker=True) for _ in seeds]
    return ReferenceEnvs([env.unwrapped for env in envs], seeds, columns, episode_seed=episode_seed)


class FireReset(gymnasium.Wrapper):
    """Presses FIRE once after the reset, in games whose minimal actions have it."""

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Reset and press."""
        observation, info = self.env.reset(**options)
        meanings = self.env.unwrapped.get_action_meanings()  # type: ignore[attr-defined]
        if "FIRE" in meanings:
            observation, _, _, _, info = self.env.step(meanings.index("FIRE"))
        return observation, info


def atari(task: Task, seeds: Sequence[int]) -> ReferenceEnvs:
    """ale-py under Gymnasium's preprocessing."""
    return ReferenceEnvs([atari_env(task) for _ in seeds], seeds, images, limit=task.time_limit)


def atari_env(task: Task) -> Any:
    """One game: up to 30 no-ops, FIRE, 4-frame skip, no sticky actions, 84×84 grey, stack of 4."""
    import ale_py
    from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

    gymnasium.register_envs(ale_py)
    game = gymnasium.make(
        task.gymnasium_id,
        frameskip=1,
        repeat_action_probability=0.0,
        full_action_space=False,
        max_num_frames_per_episode=0,
        disable_env_checker=True,
    )
    played = AtariPreprocessing(game, noop_max=30, frame_skip=4, screen_size=84)
    return FrameStackObservation(FireReset(played), 4, padding_type="reset")


REFERENCES: dict[str, Callable[[Task, Sequence[int]], ReferenceEnvs]] = {
    "atari": atari,
    "babyai": babyai,
    "metaworld": metaworld,
    "mujoco": mujoco,
}
