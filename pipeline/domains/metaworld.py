"""Meta-World: fifty manipulation tasks of a Sawyer arm, 100 steps an episode."""

from collections.abc import Sequence
from typing import Any

from pipeline.envpool_env import EnvPoolEnv, continuous
from pipeline.types import Domain, Step, Task

EPISODE_STEPS = 100
"""Every published episode has 100 steps (jat_facts: tasks and data); the benchmark's own is 500."""

SUCCESS = "An episode succeeds if any of its steps does."
"""The one definition; per-step success is stored beside it."""


class MetaWorldEnv(EnvPoolEnv):
    """EnvPool's Meta-World with a boolean ``success`` per step."""

    def recv(self) -> Step:
        """As ``EnvPoolEnv.recv``; ``info["success"]`` is bool ``(n,)``."""
        step = super().recv()
        step.info["success"] = step.info["success"] > 0.5
        return step


def make_envs(
    task: Task, seeds: Sequence[int], threads: int = 1, goal_visible: bool = True, **options: Any
) -> MetaWorldEnv:
    """One v3 environment a seed; ``goal_visible=False`` zeroes the goal, as published."""
    return MetaWorldEnv(
        task.envpool_id,
        seeds,
        continuous,
        threads=threads,
        info=("success",),
        max_episode_steps=EPISODE_STEPS,
        partially_observable=not goal_visible,
        **options,
    )


def recipe(task: Task) -> dict[str, Any]:
    """The settings of the published Meta-World experts: those for MuJoCo, and rewards / 10.

    The source is the training configuration published with each expert of the paper.
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
        "reward_scale": 0.1,  # rewards are up to 10 a step
        "max_grad_norm": 3.5,
        "normalize_input": True,
        "normalize_returns": True,
        "value_bootstrap": True,
    }


DOMAIN = Domain(
    name="metaworld",
    modality="continuous",
    observation="continuous_observations",
    make_envs=make_envs,
    policy="experts.policy:load_policy",
    recipe=recipe,
    expert_mode="argmax",  # as the published data was collected
    loss_weight=lambda task: 50.0,
)
