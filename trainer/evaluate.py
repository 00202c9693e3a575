"""Stage: play every task with a trained JAT, read the corpora's test split, and sum up."""

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.domains import RL_DOMAINS, get_domain
from pipeline.errors import UserError, did_you_mean
from pipeline.fanout import fan_out
from pipeline.params import Params
from pipeline.paths import (
    DATASET,
    EVALUATION,
    JAT,
    METRICS,
)
from pipeline.rollout import play_scores
from pipeline.seeds import env_seeds
from pipeline.settings import Evaluation
from pipeline.stage import log, read_json, run_stage, write_json
from pipeline.tasks import get_task
from trainer.batches import make_batch, make_source
from trainer.data import fingerprint, load
from trainer.policy import JatPolicy, load_model, load_policy, model_checksum
from trainer.source import dataset_folder, model_folder
from trainer.specs import TaskSpec, load_specs
from trainer.summary import metrics, summarise, table


@dataclass(frozen=True)
class Unit:
    """The evaluation of one task: what a worker needs to know."""

    task: str
    spec: TaskSpec
    model: Path
    dataset: Path | None
    """Where a corpus' test split is."""
    settings: Evaluation
    options: dict[str, Any]
    """Options of the environments."""
    seed: int
    file: Path
    key: str
    """Changes with anything that changes the result."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The stage's own arguments."""
    parser.add_argument("--model", default=str(JAT), help="folder or Hub repository")
    parser.add_argument("--dataset", default=str(DATASET), help="for the corpora's test splits")
    parser.add_argument("--tasks", nargs="+", help="some of the model's tasks instead of all")
    parser.add_argument("--episodes", type=int, help="episodes a task, instead of the parameters'")
    parser.add_argument("--output", type=Path, default=EVALUATION, help="the results' folder")


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Evaluate what is not evaluated yet, then write scores.json and the metrics."""
    results = play_and_read(params, arguments)
    scores = summarise(results, params.evaluation.bootstrap, params.seed)
    write_json(arguments.output / "scores.json", scores)
    write_json(METRICS / "evaluation.json", metrics(scores))
    for line in table(scores):
        log.info(line)


def play_and_read(params: Params, arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Task -> its result, which stays below ``arguments.output`` for the next call."""
    units = make_units(params, arguments)
    fan_out(evaluate, units, workers=params.workers, desc="evaluate", name=lambda unit: unit.task)
    return {unit.task: read_json(unit.file)["result"] for unit in units}


def make_units(params: Params, arguments: argparse.Namespace) -> list[Unit]:
    """One unit a task of the model, or of those asked for."""
    folder = model_folder(arguments.model)
    specs = load_specs(folder)
    for task in arguments.tasks or []:
        if task not in specs:
            raise UserError(f"the model was not trained on '{task}'{did_you_mean(task, specs)}")
    tasks = arguments.tasks or list(specs)
    settings = params.evaluation
    if arguments.episodes is not None:
        if arguments.episodes < 1:
            raise UserError("--episodes must be at least 1")
        settings = settings.model_copy(
            update={"episodes": arguments.episodes, "domain_episodes": {}}
        )
    corpora = [task for task in tasks if specs[task].domain not in RL_DOMAINS]
    dataset = dataset_folder(arguments.dataset, corpora) if corpora else None
    checksum = model_checksum(folder)
    units = []
    for task in tasks:
        domain = specs[task].domain
        options = params.domain(domain).env if domain in RL_DOMAINS else {}
        data = fingerprint(dataset, task, "test") if dataset and task in corpora else None
        facts = [checksum, settings.model_dump(mode="json"), options, params.seed, data]
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        file = arguments.output / f"{task}.json"
        unit = Unit(
            task, specs[task], folder, dataset, settings, options, params.seed, file.absolute(), key
        )
        units.append(unit)
    return units


def evaluate(unit: Unit) -> None:
    """Write one task's result, unless it is there already."""
    if unit.file.exists() and read_json(unit.file).get("key") == unit.key:
        return
    result = play(unit) if unit.spec.domain in RL_DOMAINS else read(unit)
    write_json(unit.file, {"key": unit.key, "result": {"domain": unit.spec.domain, **result}})


def play(unit: Unit) -> dict[str, Any]:
    """The returns of one RL task."""
    sample = unit.spec.domain in unit.settings.sample
    policy = load_policy(unit.model, unit.task, sample, unit.seed, unit.settings.context_share)
    return play_task(unit.task, policy, unit.settings, unit.options, unit.seed)


def play_task(
    name: str, policy: JatPolicy, settings: Evaluation, options: dict[str, Any], seed: int
) -> dict[str, Any]:
    """Returns and steps of the episodes of a task, and the share of them that succeeded."""
    task = get_task(name)
    episodes = settings.domain_episodes.get(task.domain, settings.episodes)
    slots = min(settings.envs, episodes)
    make_envs = get_domain(task.domain).make_envs
    assert make_envs is not None
    envs = make_envs(task, env_seeds(seed, "evaluate", task.id, count=slots), **options)
    try:
        outcomes = play_scores(envs, policy, -(-episodes // slots))
    finally:
        envs.close()
    success = [outcome.success for outcome in outcomes if outcome.success is not None]
    return {
        "returns": [outcome.score for outcome in outcomes],
        "steps": sum(outcome.steps for outcome in outcomes),
        "success": float(np.mean(success)) if success else None,
    }


@torch.no_grad()
def read(unit: Unit) -> dict[str, Any]:
    """How well the model predicts the tokens of a corpus' test split, each in natural order."""
    assert unit.dataset is not None
    model, processor = load_model(unit.model, model_checksum(unit.model))
    source = make_source(load(unit.dataset, unit.task, "test"), unit.spec, processor)
    rows = 16
    loss, right, tokens = 0.0, 0, 0
    for start in range(0, len(source.lengths), rows):
        windows = np.arange(start, min(start + rows, len(source.lengths)))
        batch = make_batch([(source, windows)])
        batch = {name: value.to(model.device) for name, value in batch.items()}
        logits = model(**batch, return_loss=False).logits
        ids, mask = batch["input_ids"], batch["attention_mask"].bool()
        if "documents" in batch:  # nothing predicts the first token of a document
            mask[:, 1:] &= batch["documents"][:, 1:] == batch["documents"][:, :-1]
        # Place i predicts token i + 1; the last image patch predicts the first token of a text.
        known = logits.shape[1] - ids.shape[1]
        first = 0 if known else 1
        logits, ids, mask = logits[:, known + first - 1 : -1], ids[:, first:], mask[:, first:]
        logits, ids = logits[mask].float(), ids[mask]
        loss += float(torch.nn.functional.cross_entropy(logits, ids, reduction="sum"))
        right += int((logits.argmax(dim=-1) == ids).sum())
        tokens += len(ids)
        if tokens >= unit.settings.corpus_tokens:
            break
    if not tokens:
        raise UserError(f"the test split of '{unit.task}' has no tokens: build the dataset again")
    mean = loss / tokens
    return {
        "loss": mean,
        "perplexity": float(np.exp(mean)),
        "accuracy": right / tokens,
        "tokens": tokens,
    }


if __name__ == "__main__":
    run_stage(main, "Score a trained JAT.", add_arguments)
