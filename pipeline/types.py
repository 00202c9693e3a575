"""What the packages agree on: tasks, domains, environments, policies and episodes."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

Observations = dict[str, np.ndarray]
"""Dataset column name -> array whose first axis is the environment (or the timestep)."""


@dataclass(frozen=True)
class Task:
    """One environment an agent can play, or one corpus it can read.

    ``random_mean``, ``expert_mean``, ``expert_std`` and ``human_mean`` are undiscounted episode
    returns published with JAT (arXiv 2402.09844, appendix); ``None`` where there is none.
    """

    id: str
    domain: str
    title: str
    gymnasium_id: str = ""
    envpool_id: str = ""
    random_mean: float | None = None
    expert_mean: float | None = None
    expert_std: float | None = None
    human_mean: float | None = None


@dataclass(frozen=True)
class Step:
    """What ``VectorEnv.step`` returns, one row for each environment stepped.

    An environment whose episode ended has been reset within the same step: ``observations``
    holds the first observation of its next episode, ``final_observations`` the last of the old.
    """

    observations: Observations
    actions: np.ndarray
    """The actions as applied: clipped to the action box, integers otherwise."""
    rewards: np.ndarray
    """float32 ``(n,)``, unclipped."""
    terminated: np.ndarray
    """bool ``(n,)``."""
    truncated: np.ndarray
    """bool ``(n,)``."""
    final_observations: Observations
    """Rows of the ended environments only, in the order of ``np.flatnonzero(step.ended)``."""
    info: dict[str, np.ndarray] = field(default_factory=dict)
    """Further per-step columns, such as ``success``."""

    @property
    def ended(self) -> np.ndarray:
        """bool ``(n,)``: terminated or truncated."""
        return self.terminated | self.truncated


class VectorEnv(Protocol):
    """``num_envs`` copies of one task, stepped together."""

    num_envs: int
    observation_space: Any
    """gymnasium space of the one array observation column of a single environment."""
    action_space: Any
    """gymnasium space of a single environment's action."""

    def reset(self) -> Observations:
        """Start an episode everywhere; arrays have ``num_envs`` rows."""
        ...

    def step(self, actions: np.ndarray, ids: np.ndarray | None = None) -> Step:
        """Step the environments ``ids`` (int ``(n,)``, all when ``None``)."""
        ...

    def close(self) -> None:
        """Free the environments."""
        ...


@runtime_checkable
class OverlappedEnv(VectorEnv, Protocol):
    """Environments that step on threads of their own, while the caller does something else."""

    def send(self, actions: np.ndarray, ids: np.ndarray) -> None:
        """Begin to step the environments ``ids``; nothing else may be under way."""
        ...

    def recv(self) -> Step:
        """Wait for what was sent; ``send`` and ``recv`` together are ``step``."""
        ...


class Policy(Protocol):
    """Chooses actions for a batch of environments."""

    name: str
    checksum: str
    """sha256 of what decides its behaviour (weights, or source), hexadecimal."""
    abandoned: dict[int, str]
    """Environment -> why its running episode cannot be played to the end; read after each act."""

    def bind(self, envs: VectorEnv) -> None:
        """Called once, before the first step; a planner keeps the simulators from here."""
        ...

    def act(
        self, observations: Observations, ids: np.ndarray, started: np.ndarray, rewards: np.ndarray
    ) -> np.ndarray:
        """Actions ``(n, ...)`` for the environments ``ids``.

        ``started`` (bool ``(n,)``) marks the first step of an episode; ``rewards`` (float32
        ``(n,)``) is what the previous action earned, 0 at a first step.
        """
        ...


@dataclass(frozen=True)
class Episode:
    """One whole episode of ``T`` steps."""

    task: str
    observations: Observations
    """Every array has ``T + 1`` rows: the last is the final observation."""
    actions: np.ndarray
    """``(T,)`` int64 or ``(T, D)`` float32."""
    rewards: np.ndarray
    """float32 ``(T,)``: the reward of the action in the same row."""
    terminated: bool
    truncated: bool
    seed: int
    """The seed of the environment slot."""
    reset_index: int
    """How many episodes that slot had played before: (seed, reset_index) replays the episode."""
    info: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Further per-step columns, ``T`` rows each."""

    def __post_init__(self) -> None:
        steps = len(self.rewards)
        if steps == 0:
            raise ValueError(f"an episode of {self.task} has no steps")
        lengths = {name: len(rows) for name, rows in self.observations.items()}
        if any(length != steps + 1 for length in lengths.values()):
            raise ValueError(f"{self.task}: observations {lengths} for {steps} steps, not T + 1")
        if len(self.actions) != steps or any(len(rows) != steps for rows in self.info.values()):
            raise ValueError(f"{self.task}: actions or info columns do not have {steps} rows")

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def score(self) -> float:
        """The undiscounted return, summed in float64."""
        return float(self.rewards.sum(dtype=np.float64))

    @property
    def success(self) -> bool | None:
        """Whether any step succeeded (Meta-World); ``None`` where the task has no such notion."""
        return bool(self.info["success"].any()) if "success" in self.info else None


@dataclass(frozen=True)
class Domain:
    """Everything that is special about one domain; each module of ``pipeline.domains`` has one."""

    name: str
    modality: Literal["continuous", "discrete", "image", "text", "vision"]
    observation: str
    """The dataset column of the array observation (``""`` for corpora)."""
    make_envs: Callable[..., VectorEnv] | None = None
    """``make_envs(task, seeds, threads=1, **options)``: one environment a seed."""
    expert_envs: Callable[..., VectorEnv] | None = None
    """As ``make_envs``, for an expert that needs another engine (the BabyAI bot)."""
    policy: str = ""
    """Dotted name ``package.module:function`` that loads an expert policy."""
    recipe: Callable[[Task], dict[str, Any]] | None = None
    """Sample Factory settings for a task of this domain."""
    expert_mode: Literal["sample", "argmax"] = "sample"
    """Whether trained experts draw their actions or take the likeliest."""
    training_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of ``make_envs`` for training only."""
    loss_weight: Callable[[str], float] = lambda task: 1.0
    """Task id -> weight of its loss in JAT's training (jat_facts: training recipe)."""
    context: int = 256
    """Timesteps in a JAT training window."""


def resolve(dotted: str) -> Any:
    """The object that ``package.module:name`` stands for."""
    module, _, name = dotted.partition(":")
    return getattr(importlib.import_module(module), name)


def check_seeds(seeds: Sequence[int]) -> list[int]:
    """Seeds as a list of ints within EnvPool's range [0, 2^31)."""
    checked = [int(seed) for seed in seeds]
    if not checked or min(checked) < 0 or max(checked) >= 2**31:
        raise ValueError(f"seeds must be within [0, 2^31): {checked[:3]}…")
    return checked
