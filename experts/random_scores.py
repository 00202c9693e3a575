"""Stage: uniform random play of every task, the zero of all normalised scores."""

from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experts.gate import RandomScore
from pipeline.domains import get_domain
from pipeline.fanout import fan_out
from pipeline.params import Params
from pipeline.paths import RANDOM_SCORES
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
        "settings": asdict(unit),
    }


def random_score(unit: RandomPlay, path: Path = RANDOM_SCORES) -> RandomScore:
    """From the stage's file where it has been made with these settings, else played here."""
    known = read_json(path).get(unit.task, {}) if path.exists() else {}
    if known.get("settings") != asdict(unit):
        known = play_random(unit)
    return RandomScore(known["mean"], known["std"], known["episodes"])


def main(params: Params, arguments: Namespace) -> None:
    """Write ``artifacts/random_scores.json``: task -> mean, std, episodes, steps."""
    units = [
        RandomPlay(
            task, params.random_episodes, params.seed, params.domain(get_task(task).domain).env
        )
        for task in params.tasks
    ]
    scores = fan_out(
        play_random, units, workers=params.workers, desc="random play", name=lambda u: u.task
    )
    write_json(RANDOM_SCORES, dict(zip(params.tasks, scores, strict=True)))
    for unit, score in zip(units, scores, strict=True):
        log.info("%-40s %10.2f ± %.2f", unit.task, score["mean"], score["std"])


if __name__ == "__main__":
    run_stage(main, "Play every task of the profile at random.")
