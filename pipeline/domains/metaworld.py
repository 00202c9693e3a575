"""Meta-World: fifty manipulation tasks of a Sawyer arm, 100 steps an episode."""

import os
from collections.abc import Sequence
from typing import Any

import gymnasium as gym

from pipeline import published
from pipeline.engines import versions
from pipeline.engines.envpool import EnvPoolEnv, continuous
from pipeline.options import EnvOptions
from pipeline.types import Domain, Engine, Modality, Step, Task, VectorEnv

MODALITY = Modality("continuous", "continuous", success=True)
TIME_LIMIT = 100
"""Agent steps of every published episode (jat_facts: tasks and data); the benchmark's own is 500,
which ``env.max_episode_steps`` gives."""
SUCCESS = "An episode succeeds if any of its steps does."
"""The one definition; per-step success is stored beside it."""
REFERENCE = frozenset(
    f"metaworld-{name}"
    for name in (
        "shelf-place", "hammer",  # the goal moves on at every reset
        "door-lock", "pick-place", "push-back", "soccer", "sweep", "sweep-into",  # other rewards
        "button-press-topdown-wall",  # an older reward
        "dial-turn", "door-close", "door-lock", "lever-pull",  # MuJoCo 3.6 is not MuJoCo 3.3
        "window-close",  # another first observation
    )
)  # fmt: skip
"""The tasks that EnvPool does not simulate as the ``metaworld`` package does, and that no setting
of it cures (docs/LOG.md has the causes)."""
CAMERA = "corner2"
"""It sees hand and object of every task; it hangs upside down."""


class MetaWorldOptions(EnvOptions):
    """Options of Meta-World's environments."""

    goal_visible: bool = True
    """Whether the agent sees where the goal is; the published data hides it."""


def tasks() -> list[Task]:
    """The tasks of the published table, in their version 3."""
    return [
        Task(
            **row,
            modality=MODALITY,
            engine="gymnasium" if row["id"] in REFERENCE else "envpool",
            time_limit=TIME_LIMIT,
        )
        for row in published.table("metaworld")
    ]


class MetaWorldEnv(EnvPoolEnv):
    """EnvPool's Meta-World with a boolean ``success`` per step."""

    def recv(self) -> Step:
        """The step that was sent; ``info["success"]`` is bool ``(n,)``."""
        step = super().recv()
        step.info["success"] = step.info["success"] > 0.5
        return step


def envpool(
    task: Task,
    seeds: Sequence[int],
    threads: int = 1,
    goal_visible: bool = True,
    max_episode_steps: int | None = None,
    **options: Any,
) -> MetaWorldEnv:
    """One EnvPool environment a seed; ``goal_visible=False`` zeroes the goal, as published."""
    return MetaWorldEnv(
        task.envpool_id,
        seeds,
        continuous,
        threads=threads,
        info=("success",),
        max_episode_steps=max_episode_steps or task.time_limit,
        partially_observable=not goal_visible,
        **options,
    )


class SeededByReset(gym.Wrapper):
    """Meta-World's own environment whose goals are drawn from the seed of its first reset.

    Its benchmarks draw fifty goals once and give each a task of its own; here, as in EnvPool, every
    episode has a fresh one.
    """

    def __init__(self, env: Any, goal_visible: bool) -> None:
        # What the benchmarks set; without it every reset has the same goal, or an unseeded one.
        env._set_task_called, env._freeze_rand_vec, env.seeded_rand_vec = True, False, True
        env._partially_observable = not goal_visible
        vars(env).pop("sawyer_observation_space", None)  # cached for a hidden goal
        super().__init__(env)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start an episode; a seed also restarts the drawing of goals."""
        if seed is not None:
            self.env.unwrapped.seed(seed)  # type: ignore[attr-defined]
        return self.env.reset()

    def render(self) -> Any:
        """The picture of the camera, the right way up."""
        picture: Any = self.env.render()
        return picture[::-1, ::-1]


def make_one(task: Task, goal_visible: bool, render_mode: str | None) -> gym.Env:
    """One environment of the ``metaworld`` package."""
    if render_mode:
        os.environ.setdefault("MUJOCO_GL", "egl")  # works without a display
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    make: Any = ALL_V3_ENVIRONMENTS[task.gymnasium_id]
    camera = {"camera_name": CAMERA, "width": 256, "height": 256} if render_mode else {}
    return SeededByReset(make(render_mode=render_mode, **camera), goal_visible)


def gymnasium(
    task: Task,
    seeds: Sequence[int],
    threads: int = 1,
    goal_visible: bool = True,
    max_episode_steps: int | None = None,
    render_mode: str | None = None,
) -> VectorEnv:
    """One environment of the ``metaworld`` package a seed, in a process each."""
    from pipeline.engines.gymnasium import GymnasiumEnv

    return GymnasiumEnv(
        lambda: make_one(task, goal_visible, render_mode),
        seeds,
        limit=max_episode_steps or task.time_limit,
        info=("success",),
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
    title="Meta-World",
    modality=MODALITY,
    tasks=tasks,
    engines={
        "envpool": Engine(envpool, lambda task: versions.mujoco_of_envpool(), "mujoco 3.6.0"),
        "gymnasium": Engine(gymnasium, lambda task: versions.mujoco(), "mujoco 3.3.0"),
    },
    renderer="gymnasium",  # EnvPool's aborts the process where there is no display
    options=MetaWorldOptions,
    scripts={"scripted": "experts.scripted:make_policy"},
    recipe=recipe,
    expert_mode="argmax",  # as the published data was collected
    loss_weight=lambda task: 50.0,
    success=SUCCESS,
    published_iqm=0.65,
)
