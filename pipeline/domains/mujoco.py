"""MuJoCo: the eleven Gymnasium v4 control tasks."""

from collections.abc import Sequence
from typing import Any

from gymnasium import Env

from pipeline import published
from pipeline.engines import pusher, versions
from pipeline.engines.envpool import EnvPoolEnv, continuous
from pipeline.types import Domain, Engine, Modality, Task, VectorEnv

MODALITY = Modality("continuous", "continuous")
TIME_LIMITS = {"mujoco-reacher": 50, "mujoco-pusher": 100}
"""Agent steps, where they are not 1,000."""
MAX_SCORES = {"mujoco-pendulum": 1000.0}
"""One point a step; the published expert balances for 475."""
SETTINGS: dict[str, dict[str, Any]] = {
    # On MuJoCo 3 the arm passes through the object of the package's model.
    "mujoco-pusher": {"movable_object": True},
    # Without it the last 84 numbers of an observation, the contact forces, are always 0.
    "mujoco-humanoid": {"post_constraint": True},
    "mujoco-standup": {"post_constraint": True},
}
"""What EnvPool has to be told to simulate Gymnasium's v4 task."""


def tasks() -> list[Task]:
    """The tasks of the published table; v4 is what its data has (ant 27, humanoid 376 numbers)."""
    return [
        Task(
            **row,
            modality=MODALITY,
            engine="envpool",
            settings={
                "envpool": SETTINGS.get(row["id"], {}),
                "gymnasium": {"movable_object": True} if row["id"] == "mujoco-pusher" else {},
            },
            time_limit=TIME_LIMITS.get(row["id"], 1000),
            max_score=MAX_SCORES.get(row["id"]),
        )
        for row in published.table("mujoco")
    ]


def envpool(
    task: Task,
    seeds: Sequence[int],
    threads: int = 1,
    max_episode_steps: int | None = None,
    movable_object: bool = False,
    **options: Any,
) -> EnvPoolEnv:
    """One EnvPool environment a seed; ``movable_object`` is for the pusher."""
    options["max_episode_steps"] = max_episode_steps or task.time_limit
    if not movable_object:
        return EnvPoolEnv(task.envpool_id, seeds, continuous, threads=threads, **options)
    with pusher.asset_folder() as folder:
        options["base_path"] = str(folder)
        return EnvPoolEnv(task.envpool_id, seeds, continuous, threads=threads, **options)


def gymnasium(
    task: Task,
    seeds: Sequence[int],
    threads: int = 1,
    max_episode_steps: int | None = None,
    render_mode: str | None = None,
    movable_object: bool = False,
) -> VectorEnv:
    """One of Gymnasium's own environments a seed, in a process each."""
    from pipeline.engines.gymnasium import GymnasiumEnv, make_registered

    limit = max_episode_steps or task.time_limit

    def make() -> Env:
        if movable_object:
            return pusher.make_one(render_mode, limit)
        return make_registered(task.gymnasium_id, {}, False, render_mode, limit)

    return GymnasiumEnv(make, seeds)


DISCOUNTS = {
    "mujoco-halfcheetah": (0.98, 0.92),
    "mujoco-swimmer": (0.9999, 0.98),
    "mujoco-reacher": (0.9, 0.95),
    "mujoco-pusher": (0.98, 0.95),
}
"""Task -> gamma, gae_lambda, where they are not (0.99, 0.95): tuned PPO settings of RL Baselines3
Zoo for the first two; the shorter the way to the goal, the less of the future (docs/LOG.md)."""


def recipe(task: Task) -> dict[str, Any]:
    """Sample Factory's settings for MuJoCo (``sf_examples.mujoco.mujoco_params`` of 2.1.1), but
    for those marked "ours", which reach the published scores in fewer steps (docs/LOG.md).

    Time limits end every task but the pendulums, hence ``value_bootstrap``.
    """
    gamma, gae_lambda = DISCOUNTS.get(task.id, (0.99, 0.95))
    return {
        "encoder_mlp_layers": [256, 256],  # ours; [64, 64] there
        "nonlinearity": "tanh",
        "policy_initialization": "torch_default",
        "adaptive_stddev": False,
        "initial_stddev": 0.4,  # ours; 1 there
        "rollout": 64,
        "batch_size": 1024,
        "num_batches_per_epoch": 4,
        "num_epochs": 4,  # ours; 2 there
        "learning_rate": 0.001,  # ours; 0.00295 there
        "lr_schedule": "linear_decay",
        "gamma": gamma,
        "gae_lambda": gae_lambda,
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
    title="MuJoCo",
    modality=MODALITY,
    tasks=tasks,
    engines={
        "envpool": Engine(envpool, lambda task: versions.mujoco_of_envpool(), "mujoco 3.6.0"),
        "gymnasium": Engine(gymnasium, lambda task: versions.mujoco(), "mujoco 3.3.0"),
    },
    renderer="gymnasium",  # EnvPool's aborts the process where there is no display
    recipe=recipe,
    loss_weight=loss_weight,
    evaluation_episodes=32,
    published_iqm=0.85,
)
