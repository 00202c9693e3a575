"""How good an expert is, before anything is collected from it: a score and a verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.engines import make_envs
from pipeline.rollout import Outcome, play_scores
from pipeline.seeds import env_seeds, sequence
from pipeline.types import Policy, Task

SLOTS = 20
"""Environments played side by side."""
NEAR_REFERENCE = 0.9
"""Share of the way from random play to the reference, and success rate, that make an ``expert``."""
LEAST_EPISODES = 20
"""Fewer episodes make nobody an ``expert``."""
RESAMPLES = 2000
VERDICTS = ("expert", "unrated", "weak", "failed")


@dataclass(frozen=True)
class Baseline:
    """What a policy that knows nothing earns: uniform random play, or always the first action."""

    mean: float
    std: float
    episodes: int

    @property
    def upper(self) -> float:
        """Upper end of the normal 95 % confidence interval of the mean."""
        return self.mean + 1.96 * self.std / np.sqrt(self.episodes)


@dataclass(frozen=True)
class Score:
    """What an expert earned over ``episodes`` episodes."""

    task: str
    mean: float
    std: float
    episodes: int
    low: float
    """Ends of the 95 % bootstrap confidence interval of the mean."""
    high: float
    mean_steps: float
    success: float | None
    """Share of episodes in which any step succeeds; None where a task has no such notion."""
    success_low: float | None
    """Lower end of its 95 % confidence interval (Wilson 1927)."""
    normalised: float | None
    """(mean - random) / (reference - random), with the published expert as the reference (paper,
    evaluation); None where the reference is no better than random."""
    random_mean: float
    noop_mean: float
    """The return of always doing nothing, or the first action where an action cannot do nothing."""
    reference_mean: float | None
    bar: float | None
    """The return that ``low`` has to reach: 90 % of the way from random play to the best that is
    known of published expert, professional player and highest possible score; None where success
    decides, or no reference is better than random play."""
    verdict: str
    """expert | unrated | weak | failed."""

    def to_dict(self) -> dict[str, Any]:
        """The contents of ``score.json``."""
        return asdict(self)


def play(
    task: Task, policy: Policy, episodes: int, seed: int, env: dict[str, Any]
) -> list[Outcome]:
    """At least ``episodes`` outcomes, the same number from every environment."""
    slots = min(SLOTS, episodes)
    envs = make_envs(task, env_seeds(seed, "gate", task.id, count=slots), **env)
    try:
        return play_scores(envs, policy, -(-episodes // slots))
    finally:
        envs.close()


def judge(
    task: Task, outcomes: Sequence[Outcome], random: Baseline, noop: Baseline, seed: int = 0
) -> Score:
    """The statistics and the verdict of some episodes.

    ``failed``: the confidence interval of the mean does not lie above those of random play and of
    doing nothing. ``expert``: it does, of at least 20 episodes, and its lower end reaches ``bar``,
    or, where a task knows success, the lower end of the success rate's reaches 90 %. ``unrated``:
    there is nothing to hold it against. ``weak``: the others.
    """
    returns = np.array([outcome.score for outcome in outcomes])
    low, high = bootstrap_interval(returns, seed)
    known = [outcome.success for outcome in outcomes if outcome.success is not None]
    success = float(np.mean(known)) if known else None
    success_low = wilson_low(sum(known), len(known)) if known else None
    mean, reference = float(returns.mean()), task.expert_mean
    span = None if reference is None else reference - random.mean
    bar = None if success is not None else bar_of(task, random.mean)
    return Score(
        task=task.id,
        mean=mean,
        std=float(returns.std()),
        episodes=len(returns),
        low=low,
        high=high,
        mean_steps=float(np.mean([outcome.steps for outcome in outcomes])),
        success=success,
        success_low=success_low,
        normalised=(mean - random.mean) / span if span is not None and span > 0 else None,
        random_mean=random.mean,
        noop_mean=noop.mean,
        reference_mean=reference,
        bar=bar,
        verdict=_verdict(task, low, len(returns), success_low, bar, (random, noop)),
    )


def _verdict(
    task: Task,
    low: float,
    episodes: int,
    success_low: float | None,
    bar: float | None,
    baselines: Sequence[Baseline],
) -> str:
    if low <= max(baseline.upper for baseline in baselines):
        return "failed"
    if success_low is None and not references(task):
        return "unrated"
    reached = bar is None or low >= bar if success_low is None else success_low >= NEAR_REFERENCE
    return "expert" if reached and episodes >= LEAST_EPISODES else "weak"


def references(task: Task) -> list[float]:
    """The returns that are known to be good on a task."""
    known = (task.expert_mean, task.human_mean, task.max_score)
    return [score for score in known if score is not None]


def bar_of(task: Task, random: float) -> float | None:
    """The return that an expert has to reach; None if no reference is better than random play."""
    best = max(references(task), default=random)
    return random + NEAR_REFERENCE * (best - random) if best > random else None


def wilson_low(successes: int, episodes: int) -> float:
    """Lower end of the 95 % score interval of a rate (Wilson 1927)."""
    z = 1.96
    rate = successes / episodes
    middle = rate + z**2 / (2 * episodes)
    width = z * np.sqrt(rate * (1 - rate) / episodes + z**2 / (4 * episodes**2))
    return float((middle - width) / (1 + z**2 / episodes))


def bootstrap_interval(returns: np.ndarray, seed: int) -> tuple[float, float]:
    """Percentile bootstrap 95 % interval of the mean (Efron 1979)."""
    rng = np.random.default_rng(sequence(seed, "bootstrap"))
    picks = rng.integers(len(returns), size=(RESAMPLES, len(returns)))
    low, high = np.percentile(returns[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
