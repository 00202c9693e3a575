"""The checks of one task: each gives a verdict in words, and the numbers behind it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.parity import games
from benchmarks.parity.compare import (
    RARE,
    SIGMAS,
    brief,
    drifting,
    one_varies,
    outside,
    shares,
    welch,
)
from benchmarks.parity.engines import declared_limit, same_physics
from benchmarks.parity.record import Budget, Maker, Recording, array_column, random_actions, record
from benchmarks.parity.states import start_like
from pipeline.seeds import env_seeds, sequence
from pipeline.types import Task

SAME = "same"
CLOSE = 2e-3
"""Observations this near (relative to 1 + size) are the same state: MuJoCo's versions differ."""
REWARD = 0.02
"""By which rewards of the same state may differ, relative to 1 + size."""
GAME_EPISODES = 3
"""Atari's shift search plays this many consecutive episodes of a slot."""


@dataclass
class Check:
    """``verdict`` is "same", "differs: …" or "n/a: …"."""

    verdict: str
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def differs(self) -> bool:
        """Whether the engine is not the task in this respect."""
        return self.verdict.startswith("differs")


def verdict(faults: list[str], **numbers: Any) -> Check:
    """Same, unless there are faults."""
    return Check("differs: " + "; ".join(faults) if faults else SAME, numbers)


@dataclass
class Pair:
    """Both sides of a task, and how to make more of them."""

    task: Task
    make_engine: Maker
    make_reference: Maker
    budget: Budget

    def recorded(self, seed: int) -> tuple[Recording, Recording]:
        """Random play of both sides."""
        seeds = env_seeds(seed, self.task.id, "parity", count=self.budget.slots)
        logs = []
        for make, salt in ((self.make_engine, 0), (self.make_reference, 1)):
            envs = make(self.task, seeds)
            logs.append(record(self.task, envs, self.budget, seed + 1_000 * salt))
            envs.close()
        return logs[0], logs[1]


def all_checks(pair: Pair, seed: int = 0) -> dict[str, Check]:
    """Name -> result, in the table's order."""
    ours, theirs = pair.recorded(seed)
    found = {
        "spaces": spaces(ours, theirs),
        "first_observations": first_observations(ours, theirs),
        "moving_dims": moving_dims(ours, theirs),
    }
    if pair.task.domain == "atari":
        found["same_actions"] = same_frames(pair)
    else:
        found["same_actions"] = same_actions(pair, seed)
    found["random_play"] = twice(pair, ours, theirs, seed)
    found["scripted_play"] = scripted_play(pair, seed)
    found["time_limit"] = time_limit(pair, ours, theirs)
    found["endings"] = endings(ours, theirs)
    found["final_observations"] = final_observations(ours, theirs)
    return found


def spaces(ours: Recording, theirs: Recording) -> Check:
    """The two observe and act in the same spaces."""
    faults = [
        f"{name} {ours.spaces[name]} against {theirs.spaces[name]}"
        for name in ours.spaces
        if ours.spaces[name] != theirs.spaces[name]
    ]
    return verdict(faults, **ours.spaces)


def first_observations(ours: Recording, theirs: Recording) -> Check:
    """First observations stay in the reference's range, episode after episode, and vary as there.

    An engine's range may be wider by half of the range seen.
    """
    if ours.column == "image_observations":
        return Check("n/a: see same_actions")
    if ours.column == "discrete_observations":
        return layouts(ours, theirs)
    mine, reference = np.array(ours.first), np.array(theirs.first)
    flat, box = mine.reshape(-1, mine.shape[-1]), reference.reshape(-1, mine.shape[-1])
    faults: list[str] = []
    numbers: dict[str, Any] = {"episodes": list(mine.shape[:2])}
    if drift := drifting(mine):
        faults.append(f"numbers {brief(drift)} drift from episode to episode")
        numbers["drift"] = mine[:, :, drift[0]].mean(axis=0).round(3).tolist()
    if gone := outside(flat, box):
        faults.append(f"numbers {brief(gone)} leave the reference's range")
    if lone := one_varies(flat, box):
        faults.append(f"numbers {brief(lone)} vary on one side only")
    spans = np.ptp(flat, axis=0), np.ptp(box, axis=0)
    still = (np.maximum(*spans) < 1e-6) & (relative(flat[0], box[0]) > CLOSE)
    if np.any(still):
        faults.append(f"numbers {brief(np.flatnonzero(still).tolist())} are other constants")
    numbers["varying"] = brief(np.flatnonzero(spans[0] > 1e-3).tolist())
    if mine.shape[-1] == 39:
        numbers["goal"] = {
            "engine": np.stack([flat[:, 36:].min(0), flat[:, 36:].max(0)]).round(3).tolist(),
            "reference": np.stack([box[:, 36:].min(0), box[:, 36:].max(0)]).round(3).tolist(),
            "distinct": len(np.unique(flat[:, 36:].round(5), axis=0)),
        }
    return verdict(faults, **numbers)


def layouts(ours: Recording, theirs: Recording) -> Check:
    """The first view holds as many things of each kind, and missions use the same words."""
    faults: list[str] = []
    views = [np.array(log.first).reshape(-1, 148)[:, 1:].reshape(-1, 49, 3)
             for log in (ours, theirs)]  # fmt: skip
    gaps = {}
    for layer, name in enumerate(("object", "colour", "state")):
        for value in np.union1d(views[0][:, :, layer], views[1][:, :, layer]).tolist():
            counts = [(view[:, :, layer] == value).sum(axis=1).tolist() for view in views]
            gaps[f"{name} {int(value)}"] = round(welch(*counts), 2)
    far = {name: gap for name, gap in gaps.items() if abs(gap) > SIGMAS + 1}
    if far:
        faults.append(f"the first view has other numbers of {far} (sigmas)")
    words = [{word for text in log.texts for word in text.split()} for log in (ours, theirs)]
    numbers = {
        "missions": [len(set(log.texts)) for log in (ours, theirs)],
        "words_one_side_only": sorted(words[0] ^ words[1]),
        "largest": max(gaps.values(), key=abs),
    }
    if len(words[0] ^ words[1]) > max(3, len(words[1]) // 4):
        faults.append(f"missions use other words: {sorted(words[0] ^ words[1])[:8]}")
    return verdict(faults, **numbers)


def moving_dims(ours: Recording, theirs: Recording) -> Check:
    """The same numbers of an observation ever change."""
    if ours.column != "continuous_observations":
        return Check("n/a: counts and frames, not measurements")
    mine, reference = ours.moving(), theirs.moving()
    often = max(2, len(ours.kept) // 2)  # rare contacts may be missing on one side
    faults = []
    if still := np.flatnonzero((reference >= often) & (mine == 0)).tolist():
        faults.append(f"numbers {brief(still)} never change")
    if moving := np.flatnonzero((mine >= often) & (reference == 0)).tolist():
        faults.append(f"numbers {brief(moving)} change, which never do in the reference")
    return verdict(faults, moving=int((mine > 0).sum()), of=len(mine))


def same_actions(pair: Pair, seed: int) -> Check:
    """From the same state, the same actions earn the same rewards and show the same."""
    task = pair.task
    for slot_seed in env_seeds(seed, task.id, "same", count=3):
        envs = pair.make_engine(task, [slot_seed])
        observations = envs.reset()
        column = array_column(observations)
        started = start_like(task, slot_seed, observations[column][0])
        if started is not None:
            return follow(pair, envs, column, observations[column][0], started, seed)
        envs.close()
    return Check("n/a: the reference cannot be put into the engine's state")


def follow(
    pair: Pair, envs: Any, column: str, first: np.ndarray, started: tuple[Any, Any], seed: int
) -> Check:
    """Step both sides until the engine's episode ends, or their states have come apart.

    They may come apart, at contacts, where the sides run different releases of the simulator.
    """
    env, seen = started
    strict = same_physics(pair.task, envs)
    rng = np.random.default_rng(sequence(seed, pair.task.id, "same"))
    gaps, rewards, ends, faults = [relative(first, seen)], [], [], []
    success, shown = 0, column
    for _ in range(pair.budget.follow):
        action = random_actions(envs.action_space, rng, 1)
        step = envs.step(action)
        seen, reward, done, _, info = env.step(action[0] if action.ndim > 1 else int(action[0]))
        if isinstance(seen, dict):
            seen = np.concatenate([[seen["direction"]], seen["image"].reshape(-1)])
        ended = bool(step.ended[0])
        mine = (step.final_observations if ended else step.observations)[shown][0]
        gaps.append(relative(mine, seen))
        rewards.append(abs(float(step.rewards[0]) - reward) / (1 + abs(reward)))
        if gaps[-1].max() > CLOSE:
            break
        if "success" in step.info:
            success += bool(step.info["success"][0]) != (info["success"] > 0.5)
        ends.append((bool(step.terminated[0]), bool(done)))
        if ended or done:
            break
    envs.close()
    env.close()
    peak = np.array([gap.max() for gap in gaps])
    if peak[0] > CLOSE:
        faults.append(f"numbers {brief(np.flatnonzero(gaps[0] > CLOSE).tolist())} differ at reset")
    elif strict and peak[-1] > CLOSE:
        apart = brief(np.flatnonzero(gaps[-1] > CLOSE).tolist())
        faults.append(f"numbers {apart} differ at step {len(peak) - 1} on the same simulator")
    together = int((peak[1:] <= CLOSE).cumprod().sum())
    worst = max(rewards[: max(together, 1)], default=0.0)
    if worst > REWARD:
        faults.append(f"rewards of the same state differ by up to {worst:.2g} of 1 + reward")
    if success:
        faults.append(f"success differs in {success} steps")
    if any(one != other for one, other in ends):
        faults.append("one terminates where the other does not")
    return verdict(
        faults,
        same_simulator=strict,
        steps_together=together,
        reset_gap=float(f"{peak[0]:.2g}"),
        gap_at_10=float(f"{peak[min(10, len(peak) - 1)]:.2g}"),
        reward_gap=float(f"{worst:.2g}"),
    )


def relative(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Differences, relative to 1 + size."""
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return np.abs(a - b) / (1 + np.maximum(np.abs(a), np.abs(b)))


def same_frames(pair: Pair) -> Check:
    """Some number of no-ops makes ALE play as the engine, frame by frame with its rewards."""
    seeds = env_seeds(0, pair.task.id, "frames", count=2)
    envs = pair.make_engine(pair.task, seeds)
    slots = games.play(pair.task, envs, pair.budget.follow, GAME_EPISODES)
    envs.close()
    matches: list[games.Match] = []
    for seed, episodes in zip(seeds, slots, strict=True):
        matches += games.match_slot(pair.task, seed, episodes)
    faults = []
    short = [f"{match.steps} of {match.of} steps" for match in matches if not match.whole]
    if short:
        faults.append(f"no shift agrees beyond {', '.join(short)}")
    finals = [match.final for match in matches if match.final is not None]
    return verdict(
        faults,
        noops=[match.noops for match in matches],
        fire=[match.fire for match in matches],
        steps=[match.steps for match in matches],
        final_frames_as_gymnasium=f"{sum(finals)} of {len(finals)}",
    )


def twice(pair: Pair, ours: Recording, theirs: Recording, seed: int) -> Check:
    """Random returns and lengths agree; what does not must not in a second sample either."""
    check = random_play(ours, theirs)
    if not check.differs:
        return check
    again = random_play(*pair.recorded(seed + 1))
    again.numbers["first_sample"] = check.numbers
    return again


def random_play(ours: Recording, theirs: Recording) -> Check:
    """Returns and lengths, by Welch's statistic."""
    faults, numbers = [], {}
    for name in ("returns", "lengths"):
        mine, reference = getattr(ours, name), getattr(theirs, name)
        sigmas = welch(mine, reference)
        numbers[name] = {
            "engine": [round(float(np.mean(mine)), 4), round(float(np.std(mine)), 4), len(mine)],
            "reference": [round(float(np.mean(reference)), 4),
                          round(float(np.std(reference)), 4), len(reference)],
            "sigmas": round(sigmas, 2) if np.isfinite(sigmas) else str(sigmas),
        }  # fmt: skip
        if abs(sigmas) > SIGMAS:
            faults.append(
                f"random {name} {np.mean(mine):.4g} against {np.mean(reference):.4g} "
                f"({abs(sigmas):.1f} sigmas)"
            )
    return verdict(faults, **numbers)


def scripted_play(pair: Pair, seed: int) -> Check:
    """A scripted policy earns as much and succeeds as often."""
    if pair.task.domain != "metaworld":
        return Check("n/a: no script that reads only observations")
    if not pair.budget.scripted:
        return Check("n/a: not in this budget")
    from experts.scripted import make_policy

    count = pair.budget.scripted
    seeds = env_seeds(seed, pair.task.id, "script", count=count)
    budget = Budget(slots=count, episodes=1, horizon=pair.budget.horizon)
    logs = []
    for make in (pair.make_engine, pair.make_reference):
        envs = make(pair.task, seeds)
        logs.append(record(pair.task, envs, budget, seed, make_policy(pair.task)))
        envs.close()
    returns = [log.returns for log in logs]
    wins = [sum(log.successes) for log in logs]
    sigmas = welch(*returns), shares(wins[0], count, wins[1], count)
    faults = []
    if abs(sigmas[0]) > SIGMAS + 0.5:
        faults.append(
            f"the script earns {np.mean(returns[0]):.4g} against {np.mean(returns[1]):.4g}"
        )
    if abs(sigmas[1]) > SIGMAS:
        faults.append(f"it succeeds in {wins[0]} against {wins[1]} of {count}")
    return verdict(
        faults,
        returns=[round(float(np.mean(rows)), 2) for rows in returns],
        successes=wins,
        episodes=count,
        sigmas=[str(round(value, 2)) for value in sigmas],
    )


def time_limit(pair: Pair, ours: Recording, theirs: Recording) -> Check:
    """Episodes that a limit ends are as long, and the limits declared are the same."""
    cut = [
        {length for length, why in zip(log.lengths, log.ended_by, strict=True)
         if why == "truncated"}
        for log in (ours, theirs)
    ]  # fmt: skip
    declared = []
    for make in (pair.make_engine, pair.make_reference):
        envs = make(pair.task, [0])
        envs.reset()
        declared.append(declared_limit(envs))
        envs.close()
    faults = []
    varied = pair.task.domain == "babyai"  # its limit depends on the mission
    if all(cut) and not varied and cut[0] != cut[1]:
        faults.append(f"episodes are cut after {sorted(cut[0])} against {sorted(cut[1])}")
    if None not in declared and declared[0] != declared[1] and not varied:
        faults.append(f"limits {declared[0]} against {declared[1]}")
    return verdict(faults, seen=[sorted(lengths)[:4] for lengths in cut], declared=declared)


def endings(ours: Recording, theirs: Recording) -> Check:
    """As many episodes terminate, as many are truncated."""
    faults, numbers = [], {}
    for why in ("terminated", "truncated"):
        counts = [log.ended_by.count(why) for log in (ours, theirs)]
        numbers[why] = counts
        totals = [len(log.ended_by) for log in (ours, theirs)]
        if abs(shares(counts[0], totals[0], counts[1], totals[1])) > SIGMAS + 0.5:
            faults.append(f"{counts[0]} of {totals[0]} episodes {why}, against {counts[1]}")
    return verdict(faults, **numbers)


def final_observations(ours: Recording, theirs: Recording) -> Check:
    """An episode's last observation is its own, and a first one is the next's."""
    ended = len(ours.ended_by) - ours.ended_by.count("horizon")
    kinds = set(ours.broken_ends) - set(theirs.broken_ends)
    # In a small world two different views may be the same by chance.
    often = [kind for kind in sorted(kinds) if ours.broken_ends.count(kind) > RARE * ended]
    counts = {kind: ours.broken_ends.count(kind) for kind in sorted(set(ours.broken_ends))}
    return verdict(often, ended=ended, **counts)
