"""Stage: play every task with a trained JAT, read the corpora's test split, and sum up."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline import closure, manifest
from pipeline.engines import decided_options, definition, make_envs
from pipeline.errors import UserError, did_you_mean
from pipeline.fanout import fan_out
from pipeline.files import Evaluated, Key, read_model
from pipeline.ownership import check_json
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
from pipeline.stage import log, run_stage, write_json
from pipeline.tasks import get_task
from trainer.evaluation.jat_policy import JatPolicy, load_model, load_policy, model_checksum
from trainer.evaluation.summary import metrics, summarise, table
from trainer.feed.batches import make_batch, make_source
from trainer.feed.data import fingerprint, load
from trainer.feed.specs import TaskSpec, load_specs
from trainer.places import dataset_folder, model_folder


@dataclass(frozen=True)
class TaskEvaluation:
    """The evaluation of one task: what a worker needs to know."""

    task: str
    spec: TaskSpec
    model: Path
    dataset: Path | None
    """The dataset that has a corpus' test split."""
    settings: Evaluation
    options: dict[str, Any]
    """Options of the environments."""
    seed: int
    file: Path
    facts: dict[str, Any]
    """Everything that decides the result."""

    @property
    def key(self) -> str:
        """Changes with anything that changes the result."""
        return manifest.fingerprint(self.facts)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The stage's own arguments."""
    parser.add_argument("--model", default=str(JAT), help="folder or Hub repository")
    parser.add_argument("--dataset", default=str(DATASET), help="for the corpora's test splits")
    parser.add_argument("--tasks", nargs="+", help="some of the model's tasks instead of all")
    parser.add_argument("--episodes", type=int, help="episodes a task, instead of the parameters'")
    parser.add_argument("--output", type=Path, default=EVALUATION, help="the results' folder")


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Evaluate what is not evaluated yet, then write scores.json and the metrics."""
    check_json(arguments.output / "scores.json", ("tasks", "domains", "corpora"))
    results = play_and_read(params, arguments)
    scores = summarise(results, params.evaluation.bootstrap, params.seed)
    write_json(arguments.output / "scores.json", scores)
    write_json(METRICS / "evaluation.json", metrics(scores))
    for line in table(scores):
        log.info(line)


def play_and_read(params: Params, arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Task -> its result, which stays below ``arguments.output`` for the next call."""
    jobs = make_jobs(params, arguments)
    for job in jobs:
        check_json(job.file, ("key", "result"))
    fan_out(evaluate, jobs, workers=params.workers, desc="evaluate", name=lambda job: job.task)
    return {job.task: read_model(job.file, Evaluated)["result"] for job in jobs}


def make_jobs(params: Params, arguments: argparse.Namespace) -> list[TaskEvaluation]:
    """One job a task of the model, or of those asked for."""
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
            update={
                "episodes": arguments.episodes,
                "domain_episodes": {spec.domain: arguments.episodes for spec in specs.values()},
            }
        )
    corpora = [task for task in tasks if not specs[task].episodic]
    dataset = dataset_folder(arguments.dataset, corpora) if corpora else None
    checksum = model_checksum(folder)
    jobs = []
    for task in tasks:
        episodic = specs[task].episodic
        options = decided_options(get_task(task), params.env_of(task)) if episodic else {}
        facts: dict[str, Any] = {"model": checksum, "seed": params.seed}
        if episodic:
            domain = specs[task].domain
            facts |= {
                "env": options,
                "definition": definition(get_task(task), params.env_of(task)),
                "episodes": settings.episodes_of(domain),
                "envs": settings.envs,
                "context_share": settings.context_share,
                "sample": settings.samples(domain),
                "code": closure.digests("trainer.evaluate:play"),
            }
        else:
            assert dataset is not None
            facts |= {
                "data": fingerprint(dataset, task, "test"),
                "tokens": settings.corpus_tokens,
                "code": closure.digests("trainer.evaluate:read"),
            }
        file = arguments.output / f"{task}.json"
        job = TaskEvaluation(
            task, specs[task], folder, dataset, settings, options, params.seed, file.absolute(),
            facts,
        )  # fmt: skip
        jobs.append(job)
    return jobs


def evaluate(job: TaskEvaluation) -> None:
    """Write one task's result, unless it is there already."""
    known = read_model(job.file, Key) if job.file.exists() else {}
    if known.get("key") == job.key:
        return
    if known:
        reason = manifest.difference(known.get("decides"), job.facts)
        log.info("%s: evaluated anew, as this changed: %s", job.task, reason)
    result = play(job) if job.spec.episodic else read(job)
    result = {"domain": job.spec.domain, **result}
    write_json(job.file, {"key": job.key, "decides": job.facts, "result": result})


def play(job: TaskEvaluation) -> dict[str, Any]:
    """The returns of one RL task."""
    sample = job.settings.samples(job.spec.domain)
    policy = load_policy(job.model, job.task, sample, job.seed, job.settings.context_share)
    return play_task(job.task, policy, job.settings, job.options, job.seed)


def play_task(
    name: str, policy: JatPolicy, settings: Evaluation, options: dict[str, Any], seed: int
) -> dict[str, Any]:
    """Returns and steps of the episodes of a task, and the share of them that succeeded."""
    task = get_task(name)
    episodes = settings.episodes_of(task.domain)
    slots = min(settings.envs, episodes)
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
def read(job: TaskEvaluation) -> dict[str, Any]:
    """How well the model predicts the tokens of a corpus' test split, each in natural order."""
    assert job.dataset is not None
    model, processor = load_model(job.model, model_checksum(job.model))
    source = make_source(load(job.dataset, job.task, "test"), job.spec, processor)
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
        if tokens >= job.settings.corpus_tokens:
            break
    if not tokens:
        raise UserError(f"the test split of '{job.task}' has no tokens: build the dataset again")
    mean = loss / tokens
    return {
        "loss": mean,
        "perplexity": float(np.exp(mean)),
        "accuracy": right / tokens,
        "tokens": tokens,
    }


if __name__ == "__main__":
    run_stage(
        main, "Score a trained JAT.", add_arguments, output=lambda arguments: arguments.output
    )
