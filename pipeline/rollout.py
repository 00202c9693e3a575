"""The one loop that plays: collection, the experts' gate, random scores and JAT's evaluation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.types import Episode, Observations, Policy, Step, VectorEnv


@dataclass(frozen=True)
class Outcome:
    """How one episode ended, without its data."""

    score: float
    steps: int
    success: bool | None
    """Whether any step succeeded, where the task has a notion of success."""


@dataclass
class Dropped:
    """Episodes that were given up, counted by reason."""

    reasons: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str) -> None:
        """Count one more."""
        self.reasons[reason] = self.reasons.get(reason, 0) + 1


PAGE = 512
"""Steps that are allocated together, for all slots."""


class _Columns:
    """Growing per-slot arrays, filled a step at a time for all slots at once.

    Pages of ``PAGE`` steps: growing copies nothing, and memory that no episode has reached is
    never touched, so that one long Atari game costs what it holds and not that for every slot.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.pages: dict[str, list[np.ndarray]] = {}

    def put(self, name: str, ids: np.ndarray, times: np.ndarray, rows: np.ndarray) -> None:
        """Store a row for each of the slots ``ids``, at step ``times`` of its episode."""
        pages = self.pages.setdefault(name, [])
        numbers, at = np.divmod(times, PAGE)
        first, last = numbers.min(), numbers.max()
        while len(pages) <= last:
            pages.append(np.empty((self.slots, PAGE, *rows.shape[1:]), rows.dtype))
        if first == last:
            pages[first][ids, at] = rows
            return
        for number in np.unique(numbers):
            here = numbers == number
            pages[number][ids[here], at[here]] = rows[here]

    def cut(self, name: str, slot: int, length: int) -> np.ndarray:
        """A copy of the first ``length`` steps of one slot."""
        return np.concatenate(
            [
                page[slot, : length - start]
                for start, page in zip(range(0, length, PAGE), self.pages[name], strict=False)
            ]
        )


def rollout(
    task: str,
    envs: VectorEnv,
    policy: Policy,
    seeds: list[int],
    episodes_per_slot: int,
    *,
    keep: Callable[[Observations], Observations] = lambda observations: observations,
    dropped: Dropped | None = None,
) -> Iterator[Episode]:
    """Play ``episodes_per_slot`` episodes in every environment and yield each as it ends.

    The quota is the same for every slot, so short episodes are not over-counted. ``keep``
    reduces observations to what is stored (an Atari stack to its newest frame). An episode
    that the policy abandons is counted in ``dropped`` and uses up its place in the quota.
    """
    columns = _Columns(envs.num_envs)
    lengths = np.zeros(envs.num_envs, np.int64)
    for position, step, ids, before, given_up in _play(envs, policy, episodes_per_slot):
        times = lengths[ids]
        for name, rows in keep(before).items():
            columns.put(f"observations/{name}", ids, times, rows)
        columns.put("actions", ids, times, step.actions)
        columns.put("rewards", ids, times, step.rewards)
        for name, rows in step.info.items():
            columns.put(f"info/{name}", ids, times, rows)
        lengths[ids] += 1
        finals = keep(step.final_observations)
        for k, row in enumerate(np.flatnonzero(step.ended)):
            slot = int(ids[row])
            length, lengths[slot] = int(lengths[slot]), 0
            if slot in given_up:
                if dropped is not None:
                    dropped.add(given_up[slot])
                continue
            yield _episode(
                task,
                columns,
                slot,
                length,
                step,
                int(row),
                {name: rows[k : k + 1] for name, rows in finals.items()},
                seeds[slot],
                int(position[slot]),
            )


def _episode(
    task: str,
    columns: _Columns,
    slot: int,
    length: int,
    step: Step,
    row: int,
    final: Observations,
    seed: int,
    reset_index: int,
) -> Episode:
    def take(prefix: str) -> dict[str, np.ndarray]:
        return {
            name.removeprefix(prefix): columns.cut(name, slot, length)
            for name in columns.pages
            if name.startswith(prefix)
        }

    return Episode(
        task,
        {name: np.concatenate([rows, final[name]]) for name, rows in take("observations/").items()},
        columns.cut("actions", slot, length),
        columns.cut("rewards", slot, length),
        bool(step.terminated[row]),
        bool(step.truncated[row]),
        seed,
        reset_index,
        take("info/"),
    )


def play_scores(
    envs: VectorEnv,
    policy: Policy,
    episodes_per_slot: int,
    tick: Callable[[], Any] = lambda: None,
) -> list[Outcome]:
    """Play as ``rollout`` does and keep only how each episode ended, in order of slots.

    ``tick`` is called once an episode. Abandoned episodes count with what they earned.
    """
    returns = np.zeros(envs.num_envs)
    lengths = np.zeros(envs.num_envs, np.int64)
    success = np.zeros(envs.num_envs, bool)
    outcomes: list[list[Outcome]] = [[] for _ in range(envs.num_envs)]
    for _, step, ids, _, _ in _play(envs, policy, episodes_per_slot):
        returns[ids] += step.rewards
        lengths[ids] += 1
        known = "success" in step.info
        if known:
            success[ids] |= step.info["success"]
        for slot in ids[step.ended]:
            outcome = Outcome(
                float(returns[slot]), int(lengths[slot]), bool(success[slot]) if known else None
            )
            outcomes[slot].append(outcome)
            returns[slot], lengths[slot], success[slot] = 0, 0, False
            tick()
    return [outcome for slot in outcomes for outcome in slot]


def _play(
    envs: VectorEnv, policy: Policy, episodes_per_slot: int
) -> Iterator[tuple[np.ndarray, Step, np.ndarray, Observations, dict[int, str]]]:
    """Step until every slot has used its quota.

    Yields (episodes finished a slot before this step, the step, the ids stepped, the
    observations acted on, the abandoned slots with their reasons).
    """
    policy.bind(envs)
    observations = envs.reset()
    ids = np.arange(envs.num_envs)
    started = np.ones(envs.num_envs, bool)
    rewards = np.zeros(envs.num_envs, np.float32)
    position = np.zeros(envs.num_envs, np.int64)
    while len(ids):
        actions = policy.act(observations, ids, started, rewards)
        given_up = dict(policy.abandoned)
        step = envs.step(actions, ids)
        yield position, step, ids, observations, given_up
        ended = step.ended
        position[ids[ended]] += 1
        stay = position[ids] < episodes_per_slot
        ids = ids[stay]
        observations = {name: rows[stay] for name, rows in step.observations.items()}
        started = ended[stay]
        rewards = np.where(started, 0, step.rewards[stay]).astype(np.float32)
