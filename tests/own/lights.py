"""A domain in one file: rows of lamps that have to be switched on, one lamp a step."""

from collections.abc import Sequence
from functools import partial

import gymnasium
import numpy as np

from pipeline.engines.gymnasium import GymnasiumEnv
from pipeline.options import EnvOptions
from pipeline.types import Domain, Engine, Modality, Observations, Task, VectorEnv

MODALITY = Modality("discrete", "discrete", success=True)


class Lamps(gymnasium.Env):
    """Every action switches one lamp; it is over when all are on."""

    def __init__(self, count: int, lit: float) -> None:
        self.observation_space = gymnasium.spaces.MultiBinary(count)
        self.action_space = gymnasium.spaces.Discrete(count)
        self.lit = lit

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.lamps = (self.np_random.random(self.observation_space.shape) < self.lit).astype(
            np.int8
        )
        self.lamps[self.np_random.integers(len(self.lamps))] = 0
        return self.lamps.copy(), {}

    def step(self, action):
        self.lamps[action] ^= 1
        done = bool(self.lamps.all())
        return self.lamps.copy(), float(done) - 0.1, done, False, {"success": done}


class LampOptions(EnvOptions):
    """Options of the lamps."""

    lit: float = 0.5
    """Share of the lamps that are on at the beginning."""


class Switcher:
    """Switches the first lamp that is off."""

    name, checksum = "switcher", "0" * 64

    def __init__(self, task: Task) -> None:
        self.abandoned: dict[int, str] = {}

    def bind(self, envs: VectorEnv) -> None:
        pass

    def act(
        self, observations: Observations, ids: np.ndarray, started: np.ndarray, rewards: np.ndarray
    ) -> np.ndarray:
        return observations["discrete_observations"].argmin(axis=1)


def tasks() -> list[Task]:
    return [
        Task(f"lights-{n}", "lights", f"{n} lamps", MODALITY, "own", time_limit=4 * n)
        for n in (4, 6)
    ]


def make(
    task: Task,
    seeds: Sequence[int],
    threads: int = 1,
    lit: float = 0.5,
    max_episode_steps: int | None = None,
    render_mode: str | None = None,
) -> VectorEnv:
    count = int(task.id.rpartition("-")[2])
    limit = max_episode_steps or task.time_limit
    return GymnasiumEnv(partial(Lamps, count, lit), seeds, limit=limit, info=("success",))


def recipe(task: Task) -> dict:
    return {"encoder_mlp_layers": [32], "rollout": 16, "batch_size": 64}


DOMAIN = Domain(
    name="lights",
    title="Lights",
    modality=MODALITY,
    tasks=tasks,
    engines={"own": Engine(make, lambda task: "lamps 1")},
    options=LampOptions,
    scripts={"switcher": Switcher},
    recipe=recipe,
    success="An episode succeeds if all lamps are on.",
)
