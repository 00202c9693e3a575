"""Stage: uniform random play of every task, the zero of all normalised scores."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experts.gate import RandomScore
from pipeline.domains import get_domain
from pipeline.fanout import fan_out
from pipeline.params import Params
from pipeline.paths import RANDOM, RANDOM_SCORES
from pipeline.policies import RandomPolicy
from pipeline.rollout import play_scores
from pipeline.seeds import env_seeds
from pipeline.stage import log, read_json, run_stage, write_json
from pipeline.tasks import get_task

SLOTS = 20


@dataclass(frozen=True)
class RandomPlay:
    """What decides the random score of one task."""

    task: str
    episodes: int
    seed: int
    env: dict[str, Any]
    file: Path
    """Where the result is kept: the gate of the experts needs it too, sooner or later."""

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result."""
        return {key: getattr(self, key) for key in ("task", "episodes", "seed", "env")}


def random_play(params: Params, task: str) -> RandomPlay:
    """The random play of one task of a profile."""
    env = params.domain(get_task(task).domain).env
    file = (RANDOM / f"{task}.json").resolve()
    return RandomPlay(task, params.random_episodes, params.seed, env, file)


def play_random(unit: RandomPlay) -> dict[str, Any]:
    """Mean, standard deviation and number of the returns of random play, in EnvPool."""
    task = get_task(unit.task)
    make_envs = get_domain(task.domain).make_envs
    assert make_envs is not None
    slots = min(SLOTS, unit.episodes)
    envs = make_envs(task, env_seeds(unit.seed, "random", task.id, count=slots), **unit.env)
    try:
        outcomes = play_scores(envs, RandomPolicy(unit.seed), -(-unit.episodes // slots))
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


def random_result(unit: RandomPlay) -> dict[str, Any]:
    """What random play earned, as ``play_random`` says it; played once for all stages."""
    known = read_json(unit.file) if unit.file.exists() else {}
    if known.get("settings") != unit.settings:
        known = play_random(unit)
        write_json(unit.file, known)
    return known


def random_score(unit: RandomPlay) -> RandomScore:
    """The gate's zero for one task."""
    known = random_result(unit)
    return RandomScore(known["mean"], known["std"], known["episodes"])


def main(params: Params, arguments: Namespace) -> None:
    """Write ``artifacts/random/scores.json``: task -> mean, std, episodes, steps."""
    units = [random_play(params, task) for task in params.tasks]
    scores = fan_out(
        random_result, units, workers=params.workers, desc="random play", name=lambda u: u.task
    )
    write_json(RANDOM_SCORES, dict(zip(params.tasks, scores, strict=True)))
    for unit, score in zip(units, scores, strict=True):
        log.info("%-40s %10.2f ± %.2f", unit.task, score["mean"], score["std"])


if __name__ == "__main__":
    run_stage(main, "Play every task of the profile at random.")
