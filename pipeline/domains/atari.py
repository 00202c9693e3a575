"""Atari: 57 games, 84×84 grey frames, four at a time."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.envpool_env import EnvPoolEnv
from pipeline.types import Domain, Observations, Task

STACK = 4
TIME_LIMITS = {"atari-montezumarevenge": 18_000 // 4}
"""Agent steps (4 frames each) where a game's limit is not the usual 108,000 frames."""


def observe(observations: np.ndarray) -> Observations:
    """uint8 ``image_observations`` (n, 4, 84, 84), oldest frame first."""
    return {"image_observations": observations}


def make_envs(task: Task, seeds: Sequence[int], threads: int = 1, **options: Any) -> EnvPoolEnv:
    """One game a seed: 4-frame skip, up to 30 no-ops and FIRE at reset, no sticky actions."""
    return EnvPoolEnv(
        task.envpool_id,
        seeds,
        observe,
        threads=threads,
        stack_num=STACK,
        frame_skip=4,
        noop_max=30,
        use_fire_reset=True,
        repeat_action_probability=0.0,
        max_episode_steps=TIME_LIMITS.get(task.id, 27_000),
        **options,
    )


def recipe(task: Task) -> dict[str, Any]:
    """Sample Factory's settings for Atari (``sf_examples.atari.atari_params`` of 2.1.1)."""
    return {
        "encoder_conv_architecture": "convnet_atari",  # Mnih et al. 2015
        "nonlinearity": "relu",
        "obs_scale": 255.0,
        "rollout": 128,
        "batch_size": 256,
        "num_batches_per_epoch": 4,
        "num_epochs": 4,
        "learning_rate": 0.00025,
        "lr_schedule": "linear_decay",
        "adam_eps": 1e-5,
        "gamma": 0.99,
        "gae_lambda": 0.95,
        "ppo_clip_ratio": 0.1,
        "value_loss_coeff": 0.5,
        "exploration_loss_coeff": 0.01,
        "max_grad_norm": 0.5,
        "normalize_input": True,
        "normalize_returns": True,
    }


DOMAIN = Domain(
    name="atari",
    modality="image",
    observation="image_observations",
    make_envs=make_envs,
    policy="experts.policy:load_policy",
    recipe=recipe,
    training_options={
        "episodic_life": True,
        "reward_clip": True,
        "info": ("reward", "terminated"),  # of the whole game, for the learning curve
    },
    context=32,
)
