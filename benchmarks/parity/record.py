"""Random play of one side, recorded once; most checks read only the recording."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.seeds import sequence
from pipeline.types import Observations, Policy, Task, VectorEnv

KEPT = 500
"""Observations of each slot kept to see which numbers move."""


@dataclass(frozen=True)
class Budget:
    """How much is played."""

    slots: int = 16
    """Environments of either side."""
    episodes: int = 4
    """Consecutive episodes of each slot."""
    horizon: int = 1_000
    """Steps after which an episode's return and length are read, whether it goes on or not."""
    scripted: int = 16
    """Episodes of a scripted policy."""
    follow: int = 200
    """Steps for which the two sides are given the same actions."""


FULL = {
    "mujoco": Budget(slots=8),
    "metaworld": Budget(slots=12),
    "babyai": Budget(slots=10, horizon=10_000),
    "atari": Budget(slots=8, episodes=1, horizon=500),
}
"""Atari's consecutive episodes are compared frame by frame instead."""
QUICK = {
    "mujoco": Budget(slots=4, horizon=100, episodes=2, scripted=0, follow=20),
    "metaworld": Budget(slots=3, episodes=2, scripted=4, follow=40),
    "babyai": Budget(slots=8, horizon=10_000, episodes=2, follow=20),
    "atari": Budget(slots=2, episodes=1, horizon=100, follow=60),
}
QUICK_TASKS = (
    "mujoco-pendulum",
    "mujoco-hopper",
    "metaworld-reach",
    "metaworld-shelf-place",
    "babyai-go-to-obj",
    "atari-breakout",
)
"""One or two tasks a domain, and one that is known to differ on EnvPool."""


@dataclass
class Recording:
    """What one side did in ``budget.episodes`` consecutive episodes of every slot."""

    column: str
    first: list[list[np.ndarray]]
    """[slot][episode]: the first observation, as float64."""
    texts: list[str] = field(default_factory=list)
    """Missions, in the order seen."""
    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    ended_by: list[str] = field(default_factory=list)
    """"terminated", "truncated" or "horizon", one an episode."""
    successes: list[bool] = field(default_factory=list)
    kept: dict[int, list[np.ndarray]] = field(default_factory=dict)
    """Slot -> observations, to see which numbers move."""
    broken_ends: list[str] = field(default_factory=list)
    """What is wrong with the observations at ends of episodes."""
    spaces: dict[str, Any] = field(default_factory=dict)

    def moving(self) -> np.ndarray:
        """In how many slots each number of a flattened observation ever changes."""
        spans = [
            np.ptp(np.asarray(rows, np.float64).reshape(len(rows), -1), axis=0)
            for rows in self.kept.values()
        ]
        return (np.array(spans) > 1e-6).sum(axis=0)


def array_column(observations: Observations) -> str:
    """Name of the column that holds arrays of numbers."""
    return next(name for name, rows in observations.items() if rows.dtype != object)


def random_actions(space: Any, rng: np.random.Generator, count: int) -> np.ndarray:
    """Uniform actions for ``count`` environments: float32 within the box, int64 otherwise."""
    if hasattr(space, "low"):
        low, high = np.asarray(space.low), np.asarray(space.high)
        drawn = rng.uniform(low, high, (count, *low.shape)).astype(np.float32)
        return np.clip(drawn, low, high).astype(np.float32)
    return rng.integers(0, int(space.n), count)


def describe(envs: VectorEnv, column: str, row: np.ndarray) -> dict[str, Any]:
    """What the two sides' spaces must agree in."""
    actions = envs.action_space
    box = hasattr(actions, "low")
    return {
        "column": column,
        "observation": f"{row.dtype} {list(row.shape)}",
        "action": [edges(actions.low), edges(actions.high)] if box else int(actions.n),
    }


def edges(bound: np.ndarray) -> list[float]:
    """A box's bounds as they read in float32, once where they are all the same."""
    values = [float(f"{value:.6g}") for value in np.asarray(bound, np.float64)]
    return values if len(set(values)) > 1 else [values[0]] * min(len(values), 1) + [len(values)]


def record(
    task: Task, envs: VectorEnv, budget: Budget, seed: int, policy: Policy | None = None
) -> Recording:
    """Play with uniform actions, or with ``policy``; every slot plays the same number."""
    rng = np.random.default_rng(sequence(seed, task.id, "actions"))
    observations = envs.reset()
    column = array_column(observations)
    log = Recording(column, [[row.astype(np.float64)] for row in observations[column]])
    log.spaces = describe(envs, column, observations[column][0])
    log.texts += list(observations.get("text_observations", []))
    slots = [_Slot() for _ in range(envs.num_envs)]
    ids = np.arange(envs.num_envs)
    past = observations
    started, earned = np.ones(len(ids), bool), np.zeros(len(ids), np.float32)
    if policy is not None:
        policy.bind(envs)
    while len(ids):
        if policy is None:
            actions = random_actions(envs.action_space, rng, len(ids))
        else:
            actions = policy.act(past, ids, started, earned)
        step = envs.step(actions, ids)
        for row, slot in enumerate(ids.tolist()):
            kept = log.kept.setdefault(slot, [])
            if len(kept) < KEPT:
                kept.append(step.observations[column][row])
            slots[slot].add(step.rewards[row], step.info.get("success", np.zeros(len(ids)))[row])
            if slots[slot].steps == budget.horizon and not step.ended[row]:
                slots[slot].close(log, "horizon")
        for number, row in enumerate(np.flatnonzero(step.ended).tolist()):
            slot = int(ids[row])
            slots[slot].close(log, "terminated" if step.terminated[row] else "truncated")
            slots[slot].begin()
            if step.terminated[row] and step.truncated[row]:
                log.broken_ends.append("terminated and truncated at once")
            final = step.final_observations[column][number]
            fresh = step.observations[column][row]
            check_end(log, past[column][row], final, fresh)
            if len(log.first[slot]) < budget.episodes:
                log.first[slot].append(fresh.astype(np.float64))
                if "text_observations" in step.observations:
                    log.texts.append(str(step.observations["text_observations"][row]))
        live = [k for k, slot in enumerate(ids.tolist()) if slots[slot].closed < budget.episodes
                and not slots[slot].waiting]  # fmt: skip
        past = {name: rows[live] for name, rows in step.observations.items()}
        ids, started, earned = ids[live], step.ended[live], step.rewards[live]
    return log


@dataclass
class _Slot:
    """The running episode of one environment."""

    steps: int = 0
    total: float = 0.0
    success: bool = False
    closed: int = 0
    waiting: bool = False
    """The horizon came before the end: the slot is not played on."""

    def add(self, reward: float, success: float) -> None:
        self.steps += 1
        self.total += float(reward)
        self.success |= bool(success)

    def close(self, log: Recording, why: str) -> None:
        log.returns.append(self.total)
        log.lengths.append(self.steps)
        log.ended_by.append(why)
        log.successes.append(self.success)
        self.closed += 1
        self.waiting = why == "horizon"

    def begin(self) -> None:
        self.steps, self.total, self.success = 0, 0.0, False


def check_end(log: Recording, past: np.ndarray, final: np.ndarray, fresh: np.ndarray) -> None:
    """Note it when the last observation is not the old episode's, or the first not the new's."""
    if np.array_equal(final, fresh) and not np.array_equal(past, fresh):
        log.broken_ends.append("final observation is the next episode's first")
        return
    if log.column == "image_observations":
        if not np.array_equal(final[:-1], past[1:]):
            log.broken_ends.append("final frames do not follow the frames before")
        if not all(np.array_equal(frame, fresh[-1]) for frame in fresh[:-1]):
            log.broken_ends.append("first frames are not one frame four times")
    elif final.size == 39:  # Meta-World: the second half is the observation before
        if not np.allclose(final[18:36], past[:18], atol=1e-6):
            log.broken_ends.append("final observation does not hold the one before")
        if not np.allclose(fresh[18:36], fresh[:18], atol=1e-6):
            log.broken_ends.append("first observation does not hold itself twice")


Maker = Callable[[Task, list[int]], VectorEnv]
