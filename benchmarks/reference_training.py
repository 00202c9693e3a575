"""Sample Factory's own training, over Gymnasium, as its MuJoCo and Atari examples set it up.

Every environment is a Gymnasium environment of its own, stepped one by one by the non-batched
sampler; sampling and learning are in processes of their own (``sf_examples.mujoco.mujoco_params``
and ``sf_examples.atari.atari_params`` of 2.1.1). The learner's settings are those of this project's
recipes.
"""

from argparse import Namespace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args
from sample_factory.envs.env_wrappers import ClipRewardEnv, EpisodicLifeEnv, FireResetEnv

from pipeline.domains import get_domain
from pipeline.domains.atari import STACK
from pipeline.tasks import get_task
from pipeline.types import Task

SAMPLING: dict[str, dict[str, Any]] = {
    "mujoco": {"num_workers": 8, "num_envs_per_worker": 8, "worker_num_splits": 2},
    "atari": {"num_workers": 8, "num_envs_per_worker": 1, "worker_num_splits": 1},
}
"""What the two examples set."""


def make_env(
    task_id: str, cfg: Any, env_config: Any = None, render_mode: str | None = None
) -> gymnasium.Env:
    """Sample Factory's environment factory; its processes find it by name."""
    task = get_task(task_id)
    return make_game(task) if task.domain == "atari" else Float32(gymnasium.make(task.gymnasium_id))


class Float32(gymnasium.Wrapper):
    """Observations of MuJoCo as float32, which Sample Factory's buffers ask for."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        shape = env.observation_space.shape
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float32)

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode."""
        observation, info = self.env.reset(**options)
        return observation.astype(np.float32), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """One step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation.astype(np.float32), reward, terminated, truncated, info


def make_game(task: Task) -> gymnasium.Env:
    """One game as ``sf_examples.atari.atari_utils`` wraps it, with Gymnasium's faster wrapper for
    no-ops, skipped frames and 84×84 grey pictures: uint8 (4, 84, 84).
    """
    import ale_py

    gymnasium.register_envs(ale_py)
    game = gymnasium.make(task.gymnasium_id, frameskip=1, repeat_action_probability=0.0)
    env: gymnasium.Env = gymnasium.wrappers.AtariPreprocessing(game, noop_max=30, frame_skip=4)
    env = EpisodicLifeEnv(env)
    if "FIRE" in game.unwrapped.get_action_meanings():  # type: ignore[attr-defined]
        env = FireResetEnv(env)
    return gymnasium.wrappers.FrameStackObservation(ClipRewardEnv(env), STACK)


def make_config(task: Task, steps: int, seed: int, folder: Path) -> Namespace:
    """Sample Factory's settings: the recipe of the domain and the sampling of the examples."""
    domain = get_domain(task.domain)
    assert domain.recipe is not None
    argv = ["--algo=APPO", f"--env={task.id}", "--experiment=run", f"--train_dir={folder}"]
    parser, known = parse_sf_args(argv)
    recipe = {key: value for key, value in domain.recipe(task).items() if key in vars(known)}
    settings = {
        **recipe,
        **SAMPLING[task.domain],
        "batched_sampling": False,
        "serial_mode": False,
        "async_rl": False,
        "use_rnn": False,
        "recurrence": 1,
        "device": "cpu",
        "seed": seed,
        "train_for_env_steps": steps,
        "use_env_info_cache": False,
        "log_to_file": False,
        "with_wandb": False,
        "save_best_every_sec": 10**9,
    }
    parser.set_defaults(**settings)
    return parse_full_cfg(parser, argv)
