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
    RANDOM_SCORES,
    episodes_folder,
    expert_folder,
)
from pipeline.rollout import play_scores
from pipeline.seeds import env_seeds
from pipeline.settings import Evaluation
from pipeline.stage import log, read_json, run_stage, write_json
from pipeline.tasks import get_task
from pipeline.types import Task
from trainer.batches import make_source
from trainer.data import fingerprint, load
from trainer.policy import JatPolicy, load_model, model_checksum
from trainer.scores import Reference, aggregate, mean_interval
from trainer.source import dataset_folder, model_folder
from trainer.specs import TaskSpec, load_specs


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
    units = make_units(params, arguments)
    fan_out(evaluate, units, workers=params.workers, desc="evaluate", name=lambda unit: unit.task)
    results = {unit.task: read_json(unit.file)["result"] for unit in units}
    scores = summarise(results, params.evaluation.bootstrap, params.seed)
    write_json(arguments.output / "scores.json", scores)
    write_json(METRICS / "evaluation.json", metrics(scores))
    for line in table(scores):
        log.info(line)


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
    """Returns of the episodes of one RL task, and the share of them that succeeded."""
    settings, task = unit.settings, get_task(unit.task)
    episodes = settings.domain_episodes.get(task.domain, settings.episodes)
    slots = min(settings.envs, episodes)
    make_envs = get_domain(task.domain).make_envs
    assert make_envs is not None
    envs = make_envs(task, env_seeds(unit.seed, "evaluate", task.id, count=slots), **unit.options)
    try:
        policy = JatPolicy(unit.model, task.id, task.domain in settings.sample, unit.seed)
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
        batch = source.batch(np.arange(start, min(start + rows, len(source.lengths))))
        batch = {name: value.to(model.device) for name, value in batch.items()}
        logits = model(**batch, return_loss=False).logits
        ids, mask = batch["input_ids"], batch["attention_mask"].bool()
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


def references(task: str) -> dict[str, Reference]:
    """``measured``: our own random play and expert; ``published``: JAT's tables, corrected."""
    info = get_task(task)
    random = read_json(RANDOM_SCORES).get(task, {}) if RANDOM_SCORES.exists() else {}
    return {
        "measured": Reference(random.get("mean"), expert_mean(info)),
        "published": Reference(info.random_mean, info.expert_mean),
    }


def expert_mean(task: Task) -> float | None:
    """The gate's score of our expert; else the mean of its episodes, as of the BabyAI bot."""
    score, episodes = expert_folder(task) / "score.json", episodes_folder(task) / "manifest.json"
    if score.exists():
        return read_json(score).get("mean")
    return read_json(episodes)["returns"].get("mean") if episodes.exists() else None


def summarise(results: dict[str, dict[str, Any]], resamples: int, seed: int) -> dict[str, Any]:
    """The content of ``scores.json``.

    ``tasks``: mean, its interval low to high, the same normalised by our own random play and
    expert, and, under ``published``, by JAT's tables. ``domains``: IQM, its interval, the tasks
    that are in it and those that are not, as their expert is unknown or no better than random
    play; under ``published`` again by JAT's tables. ``corpora``: loss, perplexity, accuracy.
    """
    played = {task: result for task, result in results.items() if "returns" in result}
    known = {task: references(task) for task in played}
    domains: dict[str, Any] = {}
    for domain in dict.fromkeys(result["domain"] for result in played.values()):
        returns = {t: r["returns"] for t, r in played.items() if r["domain"] == domain}
        ours = {task: known[task]["measured"] for task in returns}
        theirs = {task: known[task]["published"] for task in returns}
        domains[domain] = {
            **summarise_domain(returns, ours, resamples, seed),
            "published": summarise_domain(returns, theirs, resamples, seed),
        }
    return {
        "tasks": {
            task: {
                "domain": result["domain"],
                "success": result["success"],
                **summarise_task(result["returns"], known[task], resamples, seed),
            }
            for task, result in played.items()
        },
        "domains": domains,
        "corpora": {task: result for task, result in results.items() if task not in played},
    }


def summarise_task(
    returns: list[float], known: dict[str, Reference], resamples: int, seed: int
) -> dict[str, Any]:
    """One task's row."""
    low, high = mean_interval(returns, resamples, seed)
    row: dict[str, Any] = {
        "episodes": len(returns),
        "mean": float(np.mean(returns)),
        "std": float(np.std(returns)),
        "low": low,
        "high": high,
    }

    def normalise(reference: Reference) -> dict[str, Any]:
        values = {"normalised": row["mean"], "normalised_low": low, "normalised_high": high}
        return {
            "random": reference.random,
            "expert": reference.expert,
            **{
                name: float(reference.normalise(value)) if reference.usable else None
                for name, value in values.items()
            },
        }

    return {
        **row,
        **normalise(known["measured"]),
        "published": normalise(known["published"]),
    }


def summarise_domain(
    returns: dict[str, list[float]], known: dict[str, Reference], resamples: int, seed: int
) -> dict[str, Any]:
    """The aggregate over the tasks of a domain whose scores can be normalised."""
    scores = {
        task: known[task].normalise(np.array(values))
        for task, values in returns.items()
        if known[task].usable
    }
    return {
        "tasks": sorted(scores),
        "excluded": sorted(returns.keys() - scores.keys()),
        **(vars(aggregate(scores, resamples, seed)) if scores else {}),
    }


def metrics(scores: dict[str, Any]) -> dict[str, Any]:
    """What ``dvc metrics`` shows: one number a domain, a task and a corpus."""
    return {
        "iqm": {name: row.get("iqm") for name, row in scores["domains"].items()},
        "normalised": {name: row["normalised"] for name, row in scores["tasks"].items()},
        "perplexity": {name: row["perplexity"] for name, row in scores["corpora"].items()},
    }


def table(scores: dict[str, Any]) -> list[str]:
    """Lines that a person reads at the end."""
    lines = []
    for name, row in scores["tasks"].items():
        ours, theirs = (
            "–" if value is None else f"{value:.2f}"
            for value in (row["normalised"], row["published"]["normalised"])
        )
        lines.append(
            f"{name}: {row['mean']:.2f} ± {row['std']:.2f}, expert-normalised {ours} "
            f"(by the published expert {theirs})"
        )
    for name, row in scores["corpora"].items():
        lines.append(f"{name}: perplexity {row['perplexity']:.1f}, accuracy {row['accuracy']:.3f}")
    for name, row in scores["domains"].items():
        if "iqm" in row:
            lines.append(f"{name}: IQM {row['iqm']:.2f} [{row['low']:.2f}, {row['high']:.2f}]")
        if row["excluded"]:
            lines.append(
                f"{name}: left out, as no expert better than random play is known: "
                + ", ".join(row["excluded"])
            )
    return lines


if __name__ == "__main__":
    run_stage(main, "Score a trained JAT.", add_arguments)
