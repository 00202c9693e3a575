"""MuJoCo: the eleven Gymnasium v4 control tasks."""

from collections.abc import Sequence
from typing import Any

from pipeline.envpool_env import EnvPoolEnv, continuous
from pipeline.types import Domain, Task


def make_envs(task: Task, seeds: Sequence[int], threads: int = 1, **options: Any) -> EnvPoolEnv:
    """One v4 environment a seed (v4 is what the published data has: ant 27, humanoid 376)."""
    return EnvPoolEnv(task.envpool_id, seeds, continuous, threads=threads, **options)


def recipe(task: Task) -> dict[str, Any]:
    """Sample Factory's settings for MuJoCo (``sf_examples.mujoco.mujoco_params`` of 2.1.1).

    Time limits end every task but the pendulums, hence ``value_bootstrap``.
    """
    return {
        "encoder_mlp_layers": [64, 64],
        "nonlinearity": "tanh",
        "policy_initialization": "torch_default",
        "adaptive_stddev": False,
        "rollout": 64,
        "batch_size": 1024,
        "num_batches_per_epoch": 4,
        "num_epochs": 2,
        "learning_rate": 0.00295,
        "lr_schedule": "linear_decay",
        "gamma": 0.99,
        "gae_lambda": 0.95,
        "ppo_clip_ratio": 0.2,
        "value_loss_coeff": 1.3,
        "exploration_loss_coeff": 0.0,
        "kl_loss_coeff": 0.1,
        "max_grad_norm": 3.5,
        "normalize_input": True,
        "normalize_returns": True,
        "value_bootstrap": True,
    }


def loss_weight(task: str) -> float:
    """10; 20 for the pendulum and 50 for the double pendulum (paper, training details)."""
    return {"mujoco-pendulum": 20.0, "mujoco-doublependulum": 50.0}.get(task, 10.0)


DOMAIN = Domain(
    name="mujoco",
    modality="continuous",
    observation="continuous_observations",
    make_envs=make_envs,
    policy="experts.policy:load_policy",
    recipe=recipe,
    loss_weight=loss_weight,
)
