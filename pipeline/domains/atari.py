"""Atari: 57 games, 84×84 grey frames, four at a time."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline import published
from pipeline.engines import versions
from pipeline.engines.envpool import EnvPoolEnv
from pipeline.types import Domain, Engine, Modality, Observations, Task

MODALITY = Modality("image", "discrete")
STACK = 4
FRAME_SKIP = 4
TIME_LIMIT = 108_000 // FRAME_SKIP
"""Agent steps: half an hour of play."""
TIME_LIMITS = {"atari-montezumarevenge": 18_000 // FRAME_SKIP}
"""Agent steps, where a game's limit is another."""
MAX_SCORES = {"atari-boxing": 100.0, "atari-pong": 21.0}
"""Games that end at this score."""


def tasks() -> list[Task]:
    """The games of the published table."""
    return [
        Task(
            **row,
            modality=MODALITY,
            engine="envpool",
            time_limit=TIME_LIMITS.get(row["id"], TIME_LIMIT),
            max_score=MAX_SCORES.get(row["id"]),
        )
        for row in published.table("atari")
    ]


def observe(observations: np.ndarray) -> Observations:
    """uint8 ``image_observations`` (n, 4, 84, 84), oldest frame first."""
    return {"image_observations": observations}


def envpool(
    task: Task,
    seeds: Sequence[int],
    threads: int = 1,
    max_episode_steps: int | None = None,
    **options: Any,
) -> EnvPoolEnv:
    """One game a seed: 4-frame skip, up to 30 no-ops and FIRE at reset, no sticky actions."""
    return EnvPoolEnv(
        task.envpool_id,
        seeds,
        observe,
        threads=threads,
        stack_num=STACK,
        frame_skip=FRAME_SKIP,
        noop_max=30,
        use_fire_reset=True,
        repeat_action_probability=0.0,
        max_episode_steps=max_episode_steps or task.time_limit,
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
    title="Atari",
    modality=MODALITY,
    tasks=tasks,
    engines={"envpool": Engine(envpool, lambda task: versions.ale_of_envpool(), "ale 0.11.2")},
    recipe=recipe,
    training_options={
        "episodic_life": True,
        "reward_clip": True,
        "info": ("reward", "terminated"),  # of the whole game, for the learning curve
    },
    context=32,
    evaluation_episodes=8,
    sample_actions=True,
    published_iqm=0.14,
)
