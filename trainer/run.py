"""Stage: train JAT on a dataset. ``accelerate launch -m trainer.run`` uses several devices."""

import argparse
import hashlib
import json
import os
import shutil
from pathlib import Path

from transformers import TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.paths import DATASET, JAT, METRICS
from pipeline.stage import log, read_json, replaced_folder, run_stage, write_json
from pipeline.system_errors import naming
from pipeline.tasks import all_tasks
from trainer.evaluation.jat_policy import model_checksum
from trainer.feed.data import fingerprint
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
"""In the model's folder: the fingerprint of the run and its metrics."""


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


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Train on the tasks asked for, or on those of the profile that the dataset has."""
    tasks = arguments.tasks or profile_tasks(params)
    output: Path = arguments.output
    if train(params, arguments.dataset, tasks, output, arguments.pretrained, not arguments.tasks):
        write_metrics(output)


def train(
    params: Params,
    dataset: str | Path,
    tasks: list[str],
    output: Path,
    pretrained: str | None = None,
    skip_missing_corpora: bool = False,
) -> bool:
    """Train, or go on with a run that was stopped, and write the model's folder.

    Args:
        dataset, pretrained: folders, or repositories of the Hub.
        skip_missing_corpora: leave out corpora that the dataset does not have.

    Returns:
        Whether this is the main process, which wrote the folder.

    Raises:
        UserError: data, settings or a model that cannot be trained on, or a loss that diverges.
    """
    quiet()
    work = output.with_name(f"{output.name}-training")
    options = make_options(params, work)
    with options.main_process_first():  # it fetches and decodes for all
        folder = dataset_folder(dataset, tasks)
        if skip_missing_corpora:
            tasks = without_missing_corpora(tasks, folder)
        base = model_folder(pretrained, "--from") if pretrained else None
        key = run_key(params, tasks, folder, base)
        if read_key(output / RECORD) == key:
            log.info("train: '%s' is trained already with these settings and data", output)
            if options.process_index == 0:
                remove_checkpoints(work)
            return options.process_index == 0
        parts = prepare(params.jat, params.seed, folder, tasks, base)
        start_work(work, key)
        checkpoint = last_checkpoint(work)
    trainer = make_trainer(params, parts, options, work)
    with naming(work):
        trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.is_world_process_zero():
        publish(trainer, parts, work, output, key)
        remove_checkpoints(work)
    trainer.accelerator.wait_for_everyone()
    return trainer.is_world_process_zero()


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


def run_key(params: Params, tasks: list[str], dataset: Path, pretrained: Path | None = None) -> str:
    """What the trained weights depend on, as a hexadecimal digest."""
    hidden = {"save_every", "report_to", "evaluate_every", "evaluate_episodes"}
    settings = params.jat.model_dump(mode="json", exclude=hidden)
    data = {task: fingerprint(dataset, task, "train") for task in tasks}
    facts = [settings, params.seed, data]
    if pretrained is not None:
        facts.append(model_checksum(pretrained))
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_key(path: Path) -> str | None:
    """The run's key in a JSON file, ``None`` without one."""
    return read_json(path).get("key") if path.exists() else None


def start_work(work: Path, key: str) -> None:
    """Make the folder of checkpoints; those of another run are deleted."""
    if read_key(work / "key.json") != key:
        shutil.rmtree(work, ignore_errors=True)
        write_json(work / "key.json", {"key": key})


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


def publish(trainer: JatTrainer, parts: Parts, work: Path, output: Path, key: str) -> None:
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
        write_json(folder / RECORD, {"key": key, **metrics})
    log.info("train: wrote '%s' after %d tokens", output, valid)


def write_metrics(output: Path) -> None:
    """``metrics/jat.json`` from a trained model's folder: DVC removes it before each run."""
    record = read_json(output / RECORD)
    write_json(METRICS / "jat.json", {name: record[name] for name in record if name != "key"})


if __name__ == "__main__":
    run_stage(
        main,
        "Train JAT on a dataset.",
        add_arguments,
        # Of the processes of `accelerate launch` the first one writes.
        output=lambda arguments: arguments.output if os.environ.get("RANK", "0") == "0" else None,
    )
