"""Stage: uniform random play of every task, the zero of all normalised scores."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experts.gate import Baseline
from pipeline import closure, engines
from pipeline.fanout import fan_out
from pipeline.files import BaselineResult, read_model
from pipeline.manifest import difference
from pipeline.params import Params
from pipeline.paths import RANDOM, RANDOM_SCORES
from pipeline.random_policy import NoopPolicy, RandomPolicy
from pipeline.rollout import play_scores
from pipeline.seeds import env_seeds
from pipeline.stage import log, run_stage, write_json
from pipeline.tasks import get_task
from pipeline.types import Policy

SLOTS = 20
NOOP_EPISODES = 10
"""Episodes of doing nothing, which are much alike."""


@dataclass(frozen=True)
class BaselinePlay:
    """What decides the score of a policy that knows nothing on one task."""

    task: str
    policy: Literal["random", "noop"]
    episodes: int
    seed: int
    env: dict[str, Any]
    file: Path
    """The file that keeps the result: the gate of the experts needs it too, sooner or later."""

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result."""
        return {
            **{key: getattr(self, key) for key in ("task", "policy", "episodes", "seed", "env")},
            "definition": engines.definition(get_task(self.task), self.env),
            "code": closure.digests("experts.random_scores:play_baseline"),
        }


def random_play(params: Params, task: str) -> BaselinePlay:
    """The random play of one task of a profile."""
    return _play(params, task, "random", params.random_episodes, RANDOM / f"{task}.json")


def noop_play(params: Params, task: str) -> BaselinePlay:
    """The play of one who does nothing on one task of a profile."""
    episodes = min(params.random_episodes, NOOP_EPISODES)
    return _play(params, task, "noop", episodes, RANDOM / "noop" / f"{task}.json")


def _play(
    params: Params, task: str, policy: Literal["random", "noop"], episodes: int, file: Path
) -> BaselinePlay:
    env = engines.decided_options(get_task(task), params.env_of(task))
    return BaselinePlay(task, policy, episodes, params.seed, env, file.resolve())


def play_baseline(unit: BaselinePlay) -> dict[str, Any]:
    """Mean, standard deviation and number of the returns of a policy that knows nothing."""
    task = get_task(unit.task)
    slots = min(SLOTS, unit.episodes)
    seeds = env_seeds(unit.seed, "random", task.id, count=slots)
    policy: Policy = RandomPolicy(unit.seed) if unit.policy == "random" else NoopPolicy()
    envs = engines.make_envs(task, seeds, **unit.env)
    try:
        outcomes = play_scores(envs, policy, -(-unit.episodes // slots))
    finally:
        envs.close()
    returns = np.array([outcome.score for outcome in outcomes])
    return {
        "mean": float(returns.mean()),
        "std": float(returns.std()),
        "episodes": len(returns),
        "steps": int(sum(outcome.steps for outcome in outcomes)),
        "settings": unit.settings,
    }


def baseline_result(unit: BaselinePlay) -> dict[str, Any]:
    """What such play earned, as ``play_baseline`` says it; played once for all stages."""
    known = read_model(unit.file, BaselineResult) if unit.file.exists() else {}
    if known.get("settings") != unit.settings:
        if known:
            reason = difference(known["settings"], unit.settings)
            log.info("%s: %s play anew, as this changed: %s", unit.task, unit.policy, reason)
        known = play_baseline(unit)
        write_json(unit.file, known)
    return known


def baseline(unit: BaselinePlay) -> Baseline:
    """What the gate holds an expert against."""
    known = baseline_result(unit)
    return Baseline(known["mean"], known["std"], known["episodes"])


def main(params: Params, arguments: Namespace) -> None:
    """Write ``artifacts/random/scores.json``: task -> mean, std, episodes, steps."""
    units = [random_play(params, task) for task in params.tasks]
    scores = fan_out(
        baseline_result, units, workers=params.workers, desc="random play", name=lambda u: u.task
    )
    for score in scores:
        score.pop("settings")
    write_json(RANDOM_SCORES, dict(zip(params.tasks, scores, strict=True)))
    for unit, score in zip(units, scores, strict=True):
        log.info("%-40s %10.2f ± %.2f", unit.task, score["mean"], score["std"])


if __name__ == "__main__":
    run_stage(main, "Play every task of the profile at random.", output=lambda arguments: RANDOM)
