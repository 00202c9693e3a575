"""Stage: train JAT on a dataset. ``accelerate launch -m trainer.run`` uses several devices."""

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from pipeline import closure, manifest
from pipeline.errors import UserError
from pipeline.files import Key, read_model
from pipeline.ownership import check_folder
from pipeline.params import Params
from pipeline.paths import DATASET, JAT, METRICS
from pipeline.stage import (
    add_accept_code,
    log,
    replaced_folder,
    run_stage,
    write_json,
)
from pipeline.system_errors import naming
from pipeline.tasks import all_tasks
from trainer.evaluation.jat_policy import model_checksum
from trainer.feed.data import (
    domain_defaults,
    domain_of,
    find_shards,
    fingerprint,
    modality_of,
)
from trainer.feed.sampling import BLOCK, BatchPlan, task_weights
from trainer.feed.specs import save_specs
from trainer.places import dataset_folder, model_folder
from trainer.pretrained import quiet
from trainer.training.adaptive import AdaptiveSampler
from trainer.training.loop import Curve, GradientGuard, JatTrainer, Progress
from trainer.training.options import check_adapt_every, compile_blocks, make_options
from trainer.training.parts import Parts, prepare
from trainer.training.periodic import PeriodicEvaluation

CURVE = "curve.csv"
"""The learning curve: beside the checkpoints while training, in the model's folder at the end."""
SCORES = "eval_curve.csv"
"""The scores of the evaluations while training, beside the curve."""
RECORD = "training.json"
"""In the model's folder: the key of the run, what decided it, its metrics and the files."""
KEY = "key.json"
"""In the folder of checkpoints: the key of the run."""
WATCHING = closure.PLUMBING | {"trainer.training.periodic"}
"""Code that sees a run, but changes no weight."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The stage's own arguments."""
    parser.add_argument("--dataset", default=str(DATASET), help="folder or Hub repository")
    parser.add_argument("--output", type=Path, default=JAT, help="the model's folder")
    parser.add_argument("--tasks", nargs="+", help="tasks to train on instead of the profile's")
    parser.add_argument(
        "--from",
        dest="pretrained",
        help="fine-tune this JAT, a folder or Hub repository, with its tokenizer and configuration",
    )
    add_accept_code(parser)


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Train on the tasks asked for, or on those of the profile that the dataset has."""
    tasks = arguments.tasks or profile_tasks(params)
    output: Path = arguments.output
    if train(
        params,
        arguments.dataset,
        tasks,
        output,
        arguments.pretrained,
        skip_missing_corpora=not arguments.tasks,
        accept_code=arguments.accept_code,
    ):
        write_metrics(output)


def train(
    params: Params,
    dataset: str | Path,
    tasks: list[str],
    output: Path,
    pretrained: str | None = None,
    skip_missing_corpora: bool = False,
    accept_code: bool = False,
) -> bool:
    """Train, or go on with a run that was stopped, and write the model's folder.

    Args:
        dataset, pretrained: folders, or repositories of the Hub.
        skip_missing_corpora: leave out corpora that the dataset does not have.
        accept_code: take a model as it is that differs in nothing but the code that trained it.

    Returns:
        Whether this is the main process, which wrote the folder.

    Raises:
        UserError: data, settings or a model that cannot be trained on, or a loss that diverges.
    """
    quiet()
    work = training_folder(output)
    options = make_options(params, work)
    with options.main_process_first():  # it fetches and decodes for all
        if options.process_index == 0:
            check_output(output)
        folder = dataset_folder(dataset, tasks)
        if skip_missing_corpora:
            tasks = without_missing_corpora(tasks, folder)
        base = model_folder(pretrained, "--from") if pretrained else None
        facts = run_facts(params, tasks, folder, base)
        key = manifest.fingerprint(facts)
        if accept_code:
            accept(output / RECORD, facts)
        if read_key(output / RECORD) == key:
            log.info("train: '%s' is trained already with these settings, data and code", output)
            if options.process_index == 0:
                remove_checkpoints(work)
            return options.process_index == 0
        explain(output / RECORD, facts)
        parts = prepare(params.jat, params.seed, folder, tasks, base)
        start_work(work, key)
        checkpoint = last_checkpoint(work)
    trainer = make_trainer(params, parts, options, work)
    with naming(work):
        trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.is_world_process_zero():
        publish(trainer, parts, work, output, facts)
        remove_checkpoints(work)
    trainer.accelerator.wait_for_everyone()
    return trainer.is_world_process_zero()


def check_output(output: Path) -> None:
    """UserError if the model's folder, or that of its checkpoints, holds what is not ours."""
    check_folder(output, RECORD, "key", lambda record: record.get("files", entries(output)))
    work = training_folder(output)
    check_folder(work, KEY, "key", lambda record: entries(work))


def training_folder(output: Path) -> Path:
    """The folder of a run's checkpoints, beside the model's."""
    if output.name in ("", ".."):
        raise UserError(f"'{output}' names no folder of its own: name one for the model")
    return output.with_name(f"{output.name}-training")


def entries(folder: Path) -> list[str]:
    """The names of all that is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def profile_tasks(params: Params) -> list[str]:
    """Every task and corpus of a profile."""
    tasks = params.tasks + [corpus.name for corpus in (*params.text, *params.vision)]
    if not tasks:
        raise UserError("the profile has no tasks: name some in the parameters or by --tasks")
    return tasks


def without_missing_corpora(tasks: list[str], dataset: Path) -> list[str]:
    """The tasks less the profile's corpora that a dataset from elsewhere does not have."""
    missing = [task for task in tasks if task not in all_tasks() and not (dataset / task).is_dir()]
    if missing:
        log.info("train: left out, as the dataset does not have them: %s", ", ".join(missing))
    return [task for task in tasks if task not in missing]


def run_facts(
    params: Params, tasks: list[str], dataset: Path, pretrained: Path | None = None
) -> dict[str, Any]:
    """Everything that the trained weights depend on."""
    hidden = {"save_every", "report_to", "evaluate_every", "evaluate_episodes"}
    return {
        "settings": params.jat.model_dump(mode="json", exclude=hidden),
        "seed": params.seed,
        "data": {task: fingerprint(dataset, task, "train") for task in tasks},
        "pretrained": None if pretrained is None else model_checksum(pretrained),
        "domains": {task: domain_facts(dataset, task) for task in tasks},
        "code": closure.digests(
            prepare, make_options, "trainer.run:make_trainer", without=WATCHING
        ),
    }


def run_key(params: Params, tasks: list[str], dataset: Path, pretrained: Path | None = None) -> str:
    """What the trained weights depend on, as a hexadecimal digest."""
    return manifest.fingerprint(run_facts(params, tasks, dataset, pretrained))


def domain_facts(dataset: Path, task: str) -> list[float]:
    """What its domain says of a task's training: the windows' length and the loss's weight."""
    modality = modality_of(find_shards(dataset, task, "train"))
    domain = domain_defaults(domain_of(task, modality, dataset / task))
    return [domain.context, domain.loss_weight(task)]


def read_key(path: Path) -> str | None:
    """The run's key in a JSON file, ``None`` without one."""
    return read_model(path, Key).get("key") if path.exists() else None


def explain(record: Path, facts: dict[str, Any]) -> None:
    """Say why a model that is there is trained anew."""
    if record.exists():
        reason = manifest.difference(read_model(record, Key).get("decides"), facts)
        log.info("train: '%s' is trained anew, as this changed: %s", record.parent, reason)


def accept(record: Path, facts: dict[str, Any]) -> None:
    """Write down that a model is as these facts would make it, if they differ in code alone."""
    known = read_model(record, Key) if record.exists() else {}
    if known and manifest.same_but_code(known.get("decides"), facts):
        write_json(record, {**known, "key": manifest.fingerprint(facts), "decides": facts})


def start_work(work: Path, key: str) -> None:
    """Make the folder of checkpoints; those of another run are deleted."""
    if read_key(work / KEY) != key:
        shutil.rmtree(work, ignore_errors=True)
        write_json(work / KEY, {"key": key})


def remove_checkpoints(work: Path) -> None:
    """Remove the checkpoints of a run that is over."""
    for checkpoint in work.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def last_checkpoint(work: Path) -> str | None:
    """The newest checkpoint that was written to its end; newer ones are deleted."""
    while (checkpoint := get_last_checkpoint(str(work))) is not None:
        try:
            json.loads((Path(checkpoint) / "trainer_state.json").read_text(encoding="utf8"))
        except (OSError, ValueError):
            log.info("train: '%s' is incomplete and is left out", checkpoint)
            shutil.rmtree(checkpoint)
            continue
        log.info("train: goes on from '%s'", checkpoint)
        return checkpoint
    return None


def make_trainer(
    params: Params, parts: Parts, options: TrainingArguments, work: Path
) -> JatTrainer:
    """The trainer of a run, with its plan of micro-batches."""
    settings = params.jat
    weights = task_weights(parts.sources, settings.sampling, settings.temperature, settings.weights)
    domains = sorted({source.domain for source in parts.sources})
    budgets = {
        name: settings.domain_batch_tokens.get(name, settings.batch_tokens) for name in domains
    }
    each = settings.accumulation * options.world_size
    adaptive = settings.sampling == "adaptive"
    if adaptive:
        check_adapt_every(settings, options)
    block = settings.adapt_every * each if adaptive else BLOCK
    plan = BatchPlan(
        parts.sources, weights, budgets, settings.steps * each, params.seed, block, settings.shuffle
    )
    if settings.compile:
        compile_blocks(parts.model)
    trainer = JatTrainer(parts.model, options, plan)
    if adaptive:
        sampler = AdaptiveSampler(plan, each, settings.adapt_power)
        trainer.watchers.append(sampler.losses)
        trainer.add_callback(sampler)
    trainer.add_callback(GradientGuard())
    trainer.add_callback(Progress())
    trainer.add_callback(Curve(work / CURVE, domains))
    if settings.evaluate_every:
        trainer.add_callback(PeriodicEvaluation(trainer, params, parts, work / SCORES))
    return trainer


def publish(
    trainer: JatTrainer, parts: Parts, work: Path, output: Path, facts: dict[str, Any]
) -> None:
    """Write the model's folder, with the learning curve, and the metrics."""
    valid, padded = trainer.plan.count_tokens()
    points = [point for point in trainer.state.log_history if "loss" in point]
    losses = {name: value for name, value in points[-1].items() if name.startswith("loss")}
    metrics = {
        "steps": trainer.state.global_step,
        "tokens": valid,
        "valid_token_share": round(valid / padded, 4),
        "parameters": parts.model.num_parameters(),
        **losses,
    }
    with replaced_folder(output) as folder:
        parts.model.save_pretrained(folder)
        parts.processor.save_pretrained(folder)
        save_specs(folder, parts.specs)
        for name in (CURVE, SCORES):
            if (work / name).exists():
                shutil.copy(work / name, folder)
        told = {"key": manifest.fingerprint(facts), "decides": facts}
        write_json(folder / RECORD, {**told, "files": entries(folder), **metrics})
    log.info("train: wrote '%s' after %d tokens", output, valid)


def write_metrics(output: Path) -> None:
    """``metrics/jat.json`` from a trained model's folder: DVC removes it before each run."""
    record = read_model(output / RECORD, dict[str, Any])
    hidden = ("key", "decides", "files")
    write_json(METRICS / "jat.json", {name: record[name] for name in record if name not in hidden})


if __name__ == "__main__":
    run_stage(
        main,
        "Train JAT on a dataset.",
        add_arguments,
        # Of the processes of `accelerate launch` the first one writes.
        output=lambda arguments: arguments.output if os.environ.get("RANK", "0") == "0" else None,
    )
