"""How good an expert is, before anything is collected from it: a score and a verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.domains import get_domain
from pipeline.rollout import Outcome, play_scores
from pipeline.seeds import env_seeds, sequence
from pipeline.types import Policy, Task

SLOTS = 20
"""Environments played side by side."""
NEAR_REFERENCE = 0.9
"""Share of the reference's normalised score, and success rate, that make an ``expert``."""
RESAMPLES = 2000
VERDICTS = ("expert", "weak", "failed")


@dataclass(frozen=True)
class RandomScore:
    """What uniform random play earns."""

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
    normalised: float | None
    """(mean - random) / (reference - random), with the published expert as the reference (paper,
    evaluation); None where the reference is no better than random."""
    random_mean: float
    reference_mean: float | None
    verdict: str
    """expert | weak | failed."""

    def to_dict(self) -> dict[str, Any]:
        """As ``score.json`` holds it."""
        return asdict(self)


def play(
    task: Task, policy: Policy, episodes: int, seed: int, env: dict[str, Any]
) -> list[Outcome]:
    """At least ``episodes`` outcomes, the same number from every environment."""
    domain = get_domain(task.domain)
    make_envs = domain.expert_envs or domain.make_envs
    assert make_envs is not None
    slots = min(SLOTS, episodes)
    envs = make_envs(task, env_seeds(seed, "gate", task.id, count=slots), **env)
    try:
        return play_scores(envs, policy, -(-episodes // slots))
    finally:
        envs.close()


def judge(task: Task, outcomes: Sequence[Outcome], random: RandomScore, seed: int = 0) -> Score:
    """The statistics and the verdict of some episodes.

    ``expert``: 90 % of the reference's normalised score, or of the episodes succeed. ``weak``: the
    confidence interval lies above random play's. ``failed``: it does not.
    """
    returns = np.array([outcome.score for outcome in outcomes])
    low, high = bootstrap_interval(returns, seed)
    known = [outcome.success for outcome in outcomes if outcome.success is not None]
    success = float(np.mean(known)) if known else None
    mean, reference = float(returns.mean()), task.expert_mean
    span = None if reference is None else reference - random.mean
    normalised = (mean - random.mean) / span if span is not None and span > 0 else None
    above_random = low > random.upper
    by_success = success is not None and success >= NEAR_REFERENCE
    by_score = success is None and normalised is not None and normalised >= NEAR_REFERENCE
    verdict = "failed"
    if by_success or (above_random and by_score):
        verdict = "expert"
    elif above_random:
        verdict = "weak"
    return Score(
        task.id, mean, float(returns.std()), len(returns), low, high,
        float(np.mean([outcome.steps for outcome in outcomes])), success, normalised,
        random.mean, reference, verdict,
    )  # fmt: skip


def bootstrap_interval(returns: np.ndarray, seed: int) -> tuple[float, float]:
    """Percentile bootstrap 95 % interval of the mean (Efron 1979)."""
    rng = np.random.default_rng(sequence(seed, "bootstrap"))
    picks = rng.integers(len(returns), size=(RESAMPLES, len(returns)))
    low, high = np.percentile(returns[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
