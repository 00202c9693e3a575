"""What the packages agree on: tasks, domains, environments, policies and episodes."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from pipeline.options import EnvOptions

Observations = dict[str, np.ndarray]
"""Dataset column name -> array whose first axis is the environment (or the timestep)."""


@dataclass(frozen=True)
class Modality:
    """What one row of a dataset is made of: every column's name and type follows from it."""

    observation: Literal["continuous", "discrete", "image", "text", "vision"]
    """What an agent sees: numbers, integers or pictures; or what a corpus consists of."""
    action: Literal["continuous", "discrete"] | None = None
    """What an agent does; ``None`` for a corpus."""
    missions: bool = False
    """Whether a text comes with each observation."""
    success: bool = False
    """Whether the task says of each step if it succeeded."""
    wide: bool = False
    """Whether discrete observations go beyond 255."""

    @property
    def episodic(self) -> bool:
        """Whether a row is an episode, not a document."""
        return self.action is not None

    @property
    def observation_column(self) -> str:
        """The column of the observations as an agent takes them."""
        return f"{self.observation}_observations"

    @property
    def action_column(self) -> str:
        """The column of the actions."""
        return f"{self.action}_actions"

    @classmethod
    def of_columns(cls, names: Sequence[str]) -> "Modality":
        """The modality of a file with these columns, ours or those of the published dataset."""
        if not {"rewards", "discrete_actions", "continuous_actions"} & set(names):
            return cls("vision" if "images" in names else "text")
        action = "discrete" if "discrete_actions" in names else "continuous"
        further = {"missions": "text_observations" in names, "success": "success" in names}
        if "continuous_observations" in names:
            return cls("continuous", action, **further)
        if "discrete_observations" in names:
            return cls("discrete", action, **further)
        return cls("image", action, **further)


@dataclass(frozen=True)
class Task:
    """One environment an agent can play: all that stages need to know about it."""

    id: str
    domain: str
    title: str
    modality: Modality
    engine: str
    """The one of its domain's engines that plays it, unless ``env.engine`` names another."""
    gymnasium_id: str = ""
    envpool_id: str = ""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    """Engine -> what the engine has to be told to play this very task."""
    time_limit: int | None = None
    """Agent steps after which an episode is cut off; ``None``: what the environment itself says."""
    random_mean: float | None = None
    """The score of uniform random play that was published (arXiv 2402.09844, appendix); like the
    others an undiscounted return, ``None`` where there is none."""
    expert_mean: float | None = None
    """The score of the expert that was published, or what the environment itself calls solved."""
    expert_std: float | None = None
    human_mean: float | None = None
    """The score of a professional player (Mnih et al. 2015)."""
    max_score: float | None = None
    """The highest return that the rules allow, where it is known."""


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
class Engine:
    """One way to simulate the tasks of a domain."""

    make: Callable[..., VectorEnv]
    """``make(task, seeds, threads=1, **options)``: one environment a seed."""
    loaded: Callable[[Task], str]
    """The simulator that this process really loads, such as ``"mujoco 3.6.0"``."""
    simulator: str = ""
    """The simulator that the tasks are defined on; ``""``: whichever is installed."""
    independent: bool = False
    """Whether each episode has a seed of its own, so that ``reset(episode=k)`` starts the k-th of
    every slot without playing those before."""


@dataclass(frozen=True)
class Domain:
    """Everything that is special about one domain: each module of ``pipeline.domains`` has one."""

    name: str
    title: str
    modality: Modality | None = None
    """What all of its tasks, or its corpora, are made of; ``None`` where tasks differ."""
    tasks: Callable[[], Sequence[Task]] = tuple
    """All tasks of the domain."""
    engines: Mapping[str, Engine] = field(default_factory=dict)
    """Name -> engine. The first is the one that tasks name unless they have to name another."""
    renderer: str | None = None
    """The engine that draws the tasks; ``None``: the one that plays them."""
    options: type[EnvOptions] = EnvOptions
    """What a profile may set under ``env``."""
    policy: str = "experts.load:load_policy"
    """Dotted name ``package.module:function`` of what loads an expert's folder."""
    scripts: Mapping[str, str | Callable[[Task], Policy]] = field(default_factory=dict)
    """Expert source -> what makes a policy that nobody had to train, or its dotted name."""
    recipe: Callable[[Task], dict[str, Any]] | None = None
    """Sample Factory's settings for a task of this domain."""
    expert_mode: Literal["sample", "argmax"] = "sample"
    """Whether trained experts draw their actions or take the likeliest."""
    training_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the environments in training alone."""
    loss_weight: Callable[[str], float] = lambda task: 1.0
    """Task id -> weight of its loss in JAT's training (jat_facts: training recipe)."""
    context: int = 256
    """Timesteps in a JAT training window."""
    evaluation_episodes: int | None = None
    """Episodes a task that JAT is scored on, where they are not 100."""
    sample_actions: bool = False
    """Whether JAT draws its actions, or takes the likeliest."""
    success: str = ""
    """What makes an episode a success, in one sentence; ``""`` where there is no such notion."""
    published_iqm: float | None = None
    """The published JAT's interquartile mean of expert-normalised scores (paper, results)."""


def resolve(dotted: str | Callable[..., Any]) -> Any:
    """The object that ``package.module:name`` stands for; an object stands for itself."""
    if not isinstance(dotted, str):
        return dotted
    module, _, name = dotted.partition(":")
    return getattr(importlib.import_module(module), name)


def check_seeds(seeds: Sequence[int]) -> list[int]:
    """Seeds as a list of ints within EnvPool's range [0, 2^31)."""
    checked = [int(seed) for seed in seeds]
    if not checked or min(checked) < 0 or max(checked) >= 2**31:
        raise ValueError(f"seeds must be within [0, 2^31): {checked[:3]}…")
    return checked
