"""Which moment of a training run becomes the expert: its best one by the curve, or its last."""

from pathlib import Path
from typing import Any

import numpy as np

from experts.appo.checkpoints import best_checkpoint, read_checkpoint
from experts.appo.network import Network, from_sample_factory
from experts.appo.network_policy import NetworkPolicy, spaces_of
from experts.appo.recipe import Training, make_config
from experts.gate import play
from pipeline.engines import make_envs
from pipeline.errors import UserError
from pipeline.seeds import sequence
from pipeline.stage import log
from pipeline.tasks import get_task

EPISODES = 20
"""Played with each moment, where the gate plays no fewer."""


def select(
    training: Training, last: Path, mode: str, episodes: int, seed: int
) -> tuple[Network, dict[str, Any]]:
    """The better network of a training, and what was chosen: ``last`` is its last checkpoint.

    Both play the same ``min(episodes, EPISODES)`` episodes, on seeds that the gate does not use: a
    score that decided would flatter the expert. UserError when neither moment has usable weights.
    """
    moments, reason = {}, ""
    for name, path in (("last", last), ("best", best_checkpoint(training.folder))):
        checkpoint = read_checkpoint(path) if path else None
        steps = int(checkpoint["env_steps"]) if checkpoint else None
        if checkpoint is None or steps in (known for _, known in moments.values()):
            continue
        try:
            moments[name] = (_network(training, checkpoint["model"]), steps)
        except UserError as error:
            reason = f"{name} checkpoint: {error}"
            log.warning("%s: left out, %s", training.task, reason)
    if not moments:
        raise UserError(f"training {training.task} left no usable network ({reason})")
    means = {}
    if len(moments) > 1:
        count = min(episodes, EPISODES)
        means = {
            name: _score(training, net, mode, count, seed) for name, (net, _) in moments.items()
        }
    chosen = max(moments, key=lambda name: means.get(name, 0.0))
    candidates = {
        name: {"steps": steps, "mean": means.get(name)} for name, (_, steps) in moments.items()
    }
    network, steps = moments[chosen]
    return network, {"checkpoint": chosen, "steps": steps, "candidates": candidates}


def _network(training: Training, weights: dict[str, Any]) -> Network:
    task = get_task(training.task)
    envs = make_envs(task, [0], **training.env)
    try:
        return from_sample_factory(weights, make_config(training), *spaces_of(envs))
    finally:
        envs.close()


def _score(training: Training, network: Network, mode: str, episodes: int, seed: int) -> float:
    task = get_task(training.task)
    # The gate derives its seeds from its own seed: another one makes all of them others.
    (word,) = sequence(seed, "selection", task.id).generate_state(1)
    column = task.modality.observation_column
    policy = NetworkPolicy(network, column, mode, int(word), task.id, "")
    outcomes = play(task, policy, episodes, int(word), training.env)
    return float(np.mean([outcome.score for outcome in outcomes]))
