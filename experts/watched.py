"""One environment that can be drawn, for each domain: what ``experts.play`` looks at."""

import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.domains import get_domain
from pipeline.domains.metaworld import EPISODE_STEPS
from pipeline.envpool_env import continuous
from pipeline.errors import UserError
from pipeline.types import Observations, Step, Task, VectorEnv

SIDE = 256
"""Of a rendered picture, in pixels."""
STAND_INS = {"Pusher-v4": "Pusher-v5"}
"""Gymnasium runs Pusher-v4 on MuJoCo 2 only; v5 has the same observations and actions."""
CAMERA = "corner2"
"""Of Meta-World: it sees hand and object of every task; it hangs upside down."""
Picture = Callable[[], np.ndarray]
"""Draws the environment: uint8 (H, W, 3)."""


class Watched:
    """One Gymnasium environment with continuous observations, for one episode."""

    num_envs = 1

    def __init__(self, env: Any, seed: int, limit: int | None = None) -> None:
        self.env, self._seed, self._limit, self._steps = env, seed, limit, 0
        self.observation_space, self.action_space = env.observation_space, env.action_space

    def reset(self) -> Observations:
        """Start the episode."""
        observation, _ = self.env.reset(seed=self._seed)
        return continuous(observation[None])

    def step(self, actions: np.ndarray, ids: np.ndarray | None = None) -> Step:
        """One step; the episode is over after it when ``ended`` says so."""
        actions = np.clip(actions, self.action_space.low, self.action_space.high)
        observation, reward, terminated, truncated, _ = self.env.step(actions[0])
        self._steps += 1
        truncated = truncated or self._steps == self._limit
        columns = continuous(observation[None])
        ended = np.array([terminated]), np.array([truncated and not terminated])
        finals = columns if terminated or truncated else {}
        return Step(columns, actions, np.array([reward], np.float32), *ended, finals)

    def close(self) -> None:
        """Free the environment."""
        self.env.close()


def watched_envs(task: Task, seed: int, env: dict[str, Any]) -> tuple[VectorEnv, Picture]:
    """One environment of the task with the domain's options ``env``, and what draws it."""
    if task.domain == "atari":
        games: Any = get_domain("atari").make_envs(task, [seed], render_mode="rgb_array", **env)  # type: ignore[misc]
        return games, games.render
    if task.domain == "babyai":
        levels: Any = get_domain("babyai").expert_envs(task, [seed], **env)  # type: ignore[misc]
        return levels, lambda: levels.envs[0].get_frame()
    if sys.platform == "linux":
        os.environ.setdefault("MUJOCO_GL", "egl")  # works without a display
    if task.domain == "metaworld":
        arm = metaworld_env(task, seed, **env)
        return Watched(arm, seed, EPISODE_STEPS), _drawn(lambda: arm.render()[::-1, ::-1])
    robot = mujoco_env(task)
    return Watched(robot, seed), _drawn(robot.render)


def metaworld_env(task: Task, seed: int, goal_visible: bool = True) -> Any:
    """Meta-World's own environment; its goal is drawn from ``seed``."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    make: Any = ALL_V3_ENVIRONMENTS[task.gymnasium_id]
    env = make(render_mode="rgb_array", camera_name=CAMERA, width=SIDE, height=SIDE)
    # What its benchmarks set; without it every reset has the same goal, or an unseeded one.
    env._set_task_called, env._freeze_rand_vec, env.seeded_rand_vec = True, False, True
    env._partially_observable = not goal_visible
    vars(env).pop("sawyer_observation_space", None)  # cached for a hidden goal
    env.seed(seed)
    return env


def mujoco_env(task: Task) -> Any:
    """Gymnasium's environment."""
    import gymnasium

    id = STAND_INS.get(task.gymnasium_id, task.gymnasium_id)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls v4 outdated: the data's version is
        return gymnasium.make(
            id, render_mode="rgb_array", width=SIDE, height=SIDE, disable_env_checker=True
        )


def _drawn(render: Picture) -> Picture:
    """``render``, whose many ways of failing without OpenGL become one line."""

    def draw() -> np.ndarray:
        try:
            return render()
        except (AttributeError, ImportError, RuntimeError) as error:
            reason = str(error).strip().splitlines()
            raise UserError(
                f"MuJoCo cannot draw here ({reason[0] if reason else type(error).__name__}): "
                "install EGL, or set MUJOCO_GL to glfw or osmesa"
            ) from None

    return draw
