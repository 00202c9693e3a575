"""The one loop that plays: collection, the experts' gate, random scores and JAT's evaluation."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.types import Episode, Observations, OverlappedEnv, Policy, Step, VectorEnv


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
GROUPS = 2
"""Groups of slots that take turns: one is stepped while the policy acts for the other."""


class _Columns:
    """Growing per-slot arrays, filled a step at a time for many slots at once.

    Pages of ``PAGE`` steps: growing copies nothing, and memory that no episode has reached is
    never touched, so that one long Atari game costs what it holds and not that for every slot.
    """

    def __init__(self, slots: int) -> None:
        self.lengths = np.zeros(slots, np.int64)
        self.pages: dict[str, list[np.ndarray]] = {}

    def append(self, ids: np.ndarray, columns: dict[str, np.ndarray]) -> None:
        """Store one step of the slots ``ids``: a row of every column for each."""
        numbers, at = np.divmod(self.lengths[ids], PAGE)
        first, last = int(numbers.min()), int(numbers.max())
        for name, rows in columns.items():
            pages = self.pages.setdefault(name, [])
            while len(pages) <= last:
                pages.append(np.empty((len(self.lengths), PAGE, *rows.shape[1:]), rows.dtype))
            if first == last:
                pages[first][ids, at] = rows
                continue
            for number in np.unique(numbers):
                here = numbers == number
                pages[number][ids[here], at[here]] = rows[here]
        self.lengths[ids] += 1

    def cut(self, slot: int) -> dict[str, list[np.ndarray]]:
        """The steps of one slot, which starts anew: pieces of each column, to be copied at once."""
        length, self.lengths[slot] = int(self.lengths[slot]), 0
        starts = range(0, length, PAGE)
        return {
            name: [page[slot, : length - start] for start, page in zip(starts, pages, strict=False)]
            for name, pages in self.pages.items()
        }


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

    Environments that step on their own (``OverlappedEnv``) are stepped in two halves: one while
    the policy acts for the other and the caller handles its episodes. The halves take strict
    turns, so the episodes do not depend on how fast anything is.
    """
    columns = _Columns(envs.num_envs)
    for turn, step in _play(envs, policy, episodes_per_slot, GROUPS):
        group = turn.group
        kept = {f"observations/{name}": rows for name, rows in keep(group.observations).items()}
        info = {f"info/{name}": rows for name, rows in step.info.items()}
        columns.append(group.ids, kept | info | {"actions": step.actions, "rewards": step.rewards})
        finals = keep(step.final_observations)
        for k, row in enumerate(np.flatnonzero(step.ended)):
            slot = int(group.ids[row])
            pieces = columns.cut(slot)
            if slot in turn.given_up:
                if dropped is not None:
                    dropped.add(turn.given_up[slot])
                continue
            for name, rows in finals.items():
                pieces[f"observations/{name}"].append(rows[k : k + 1])
            whole = {name: np.concatenate(parts) for name, parts in pieces.items()}
            yield Episode(
                task,
                _below("observations/", whole),
                whole["actions"],
                whole["rewards"],
                bool(step.terminated[row]),
                bool(step.truncated[row]),
                seeds[slot],
                int(group.episodes[row]),
                _below("info/", whole),
            )


def _below(prefix: str, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): rows for name, rows in columns.items() if name.startswith(prefix)
    }


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
    for turn, step in _play(envs, policy, episodes_per_slot, groups=1):
        ids = turn.group.ids
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


@dataclass(frozen=True)
class _Group:
    """Environments that are stepped together, as they stand between two steps."""

    ids: np.ndarray
    observations: Observations
    started: np.ndarray
    """Whether an episode starts."""
    rewards: np.ndarray
    """What the last step earned; 0 where an episode starts."""
    episodes: np.ndarray
    """How many episodes each has finished."""

    def rows(self, which: np.ndarray) -> "_Group":
        """Some of the environments: their rows, or a boolean for each."""
        return _Group(
            self.ids[which],
            {name: rows[which] for name, rows in self.observations.items()},
            self.started[which],
            self.rewards[which],
            self.episodes[which],
        )

    def after(self, step: Step, episodes_per_slot: int) -> "_Group":
        """The environments after a step, without those that have used their quota."""
        ended = step.ended
        rewards = np.where(ended, 0, step.rewards).astype(np.float32)
        group = _Group(self.ids, step.observations, ended, rewards, self.episodes + ended)
        stay = group.episodes < episodes_per_slot
        return group if stay.all() else group.rows(stay)


@dataclass(frozen=True)
class _Turn:
    """What the policy decided for a group."""

    group: _Group
    actions: np.ndarray
    given_up: dict[int, str]
    """The slots that the policy had abandoned, with its reasons."""


class _InTurn:
    """``send`` and ``recv`` for environments that are stepped while one waits."""

    def __init__(self, envs: VectorEnv) -> None:
        self._step = envs.step
        self._sent: tuple[np.ndarray, np.ndarray] | None = None

    def send(self, actions: np.ndarray, ids: np.ndarray) -> None:
        self._sent = actions, ids

    def recv(self) -> Step:
        assert self._sent is not None
        return self._step(*self._sent)


def _play(
    envs: VectorEnv, policy: Policy, episodes_per_slot: int, groups: int
) -> Iterator[tuple[_Turn, Step]]:
    """Step until every slot has used its quota; yields every turn with the step it led to."""
    overlapped = isinstance(envs, OverlappedEnv)
    stepper = envs if overlapped else _InTurn(envs)
    policy.bind(envs)
    slots = np.arange(envs.num_envs)
    zeros = np.zeros(len(slots), np.int64)
    everyone = _Group(slots, envs.reset(), zeros == 0, zeros.astype(np.float32), zeros)
    parts = min(groups, len(slots)) if overlapped else 1
    waiting = deque(everyone.rows(rows) for rows in np.array_split(slots, parts))

    def act() -> _Turn | None:
        if not waiting:
            return None
        group = waiting.popleft()
        actions = policy.act(group.observations, group.ids, group.started, group.rewards)
        return _Turn(group, actions, dict(policy.abandoned))

    def send(turn: _Turn | None) -> _Turn | None:
        if turn is not None:
            stepper.send(turn.actions, turn.group.ids)
        return turn

    turn = send(act())
    while turn is not None:
        following = act()
        step = stepper.recv()
        send(following)
        yield turn, step
        group = turn.group.after(step, episodes_per_slot)
        if len(group.ids):
            waiting.append(group)
        turn = following or send(act())
