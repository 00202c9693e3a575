"""Watch an expert: ``python -m experts.play --task mujoco-hopper --output hopper.gif``.

Pictures come from the reference implementations (Gymnasium, Meta-World, minigrid), whose
renderer works without a display; Atari's from EnvPool, the engine of the data.
"""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experts.policy import load_policy
from pipeline.domains import get_domain
from pipeline.domains.metaworld import EPISODE_STEPS
from pipeline.envpool_env import EnvPoolEnv, continuous
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.paths import expert_folder
from pipeline.stage import log, run_stage, write_atomic
from pipeline.tasks import get_task
from pipeline.types import Observations, Step, Task, VectorEnv

FPS = 30
SIDE = 240
"""Largest side of a picture in the file, in pixels."""


class Watched:
    """One Gymnasium environment with continuous observations, as a ``VectorEnv`` of one."""

    num_envs = 1

    def __init__(self, env: Any, seed: int, limit: int | None) -> None:
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

    def render(self) -> np.ndarray:
        """uint8 (H, W, 3)."""
        return self.env.render()

    def close(self) -> None:
        """Free the environment."""
        self.env.close()


def watched_envs(task: Task, seed: int, env: dict[str, Any]) -> tuple[VectorEnv, Callable]:
    """One environment of the task, and what takes its picture."""
    if task.domain == "atari":
        envs: Any = get_domain("atari").make_envs(task, [seed], render_mode="rgb_array", **env)  # type: ignore[misc]
        assert isinstance(envs, EnvPoolEnv)
        return envs, envs.render
    if task.domain == "babyai":
        levels: Any = get_domain("babyai").expert_envs(task, [seed], **env)  # type: ignore[misc]
        return levels, lambda: levels.envs[0].get_frame()
    os.environ.setdefault("MUJOCO_GL", "egl")  # works without a display; read on import
    if task.domain == "metaworld":
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE as classes

        make: Any = classes[f"{task.gymnasium_id}-goal-observable"]
        made = make(seed=seed, render_mode="rgb_array")
        watched = Watched(made, seed, EPISODE_STEPS)
    else:
        import gymnasium

        try:
            made = gymnasium.make(task.gymnasium_id, render_mode="rgb_array")
        except (gymnasium.error.Error, ImportError) as error:
            raise UserError(f"Gymnasium cannot show {task.gymnasium_id}: {error}") from None
        watched = Watched(made, seed, None)
    return watched, watched.render


def play(
    params: Params, task_id: str, folder: Path | None, seed: int, limit: int
) -> tuple[list[np.ndarray], float]:
    """The pictures of one episode, at most ``limit`` of them, and its return so far."""
    task = get_task(task_id)
    policy = load_policy(task, folder or expert_folder(task), seed)
    env = params.domain(task.domain).env
    envs, picture = watched_envs(task, seed, env)
    try:
        policy.bind(envs)
        observations, ids = envs.reset(), np.arange(1)
        rewards, started = np.zeros(1, np.float32), np.ones(1, bool)
        pictures, total = [picture()], 0.0
        while len(pictures) < limit:
            step = envs.step(policy.act(observations, ids, started, rewards), ids)
            observations, rewards, started = step.observations, step.rewards, step.ended
            total += float(rewards[0])
            if step.ended[0]:
                break
            pictures.append(picture())
        return pictures, total
    finally:
        envs.close()


def to_gif(pictures: list[np.ndarray]) -> bytes:
    """An endless GIF of uint8 (H, W, 3) pictures."""
    import io

    from PIL import Image

    images = [Image.fromarray(picture) for picture in pictures]
    for image in images:
        image.thumbnail((SIDE, SIDE))
    data = io.BytesIO()
    images[0].save(
        data, "GIF", save_all=True, append_images=images[1:], duration=1000 // FPS, loop=0
    )
    return data.getvalue()


def main(params: Params, arguments: Namespace) -> None:
    """Write the GIF."""
    if arguments.output.suffix != ".gif":
        raise UserError(f"--output '{arguments.output}' must end in .gif")
    pictures, total = play(
        params, arguments.task, arguments.folder, arguments.seed, arguments.frames
    )
    write_atomic(arguments.output, to_gif(pictures))
    log.info("%s: %d frames, return %.4g", arguments.output, len(pictures), total)


def add_arguments(parser: ArgumentParser) -> None:
    """What to watch, and where it goes."""
    parser.add_argument("--task", required=True, help="a task id, such as mujoco-hopper")
    parser.add_argument("--output", type=Path, default=Path("replay.gif"), help="a GIF file")
    parser.add_argument("--folder", type=Path, help="an expert's folder instead of the stage's")
    parser.add_argument("--seed", type=int, default=0, help="of environment and policy")
    parser.add_argument("--frames", type=int, default=300, help="at most this many steps")


if __name__ == "__main__":
    run_stage(main, "Record one episode of an expert.", add_arguments)
