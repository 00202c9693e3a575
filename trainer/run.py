"""Stage: train JAT on a dataset. ``accelerate launch -m trainer.run`` uses several devices."""

import argparse
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from pipeline.domains import get_domain
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.paths import DATASET, JAT, METRICS
from pipeline.settings import Jat
from pipeline.stage import log, read_json, replaced_folder, run_stage, write_json
from pipeline.tasks import all_tasks
from trainer.batches import Source, make_source
from trainer.configuration_jat import JatConfig
from trainer.data import TaskData, fingerprint, load
from trainer.loop import Curve, GradientGuard, JatTrainer, Progress
from trainer.modeling_jat import JatModel
from trainer.policy import quiet
from trainer.processing_jat import JatProcessor
from trainer.sampling import Plan, task_weights
from trainer.source import dataset_folder
from trainer.specs import TaskSpec, make_spec, save_specs
from trainer.tokenizer import load_tokenizer

CURVE = "curve.csv"
"""The learning curve: beside the checkpoints while training, in the model's folder at the end."""
RECORD = "training.json"
"""In the model's folder: the fingerprint of the run and its metrics."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The stage's own arguments."""
    parser.add_argument("--dataset", default=str(DATASET), help="folder or Hub repository")
    parser.add_argument("--output", type=Path, default=JAT, help="the model's folder")
    parser.add_argument("--tasks", nargs="+", help="tasks to train on instead of the profile's")


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Train, or go on with a run that was stopped, and write the model's folder."""
    quiet()
    tasks = arguments.tasks or profile_tasks(params)
    output: Path = arguments.output
    work = output.with_name(f"{output.name}-training")
    options = make_options(params, work)
    with options.main_process_first():  # it fetches and decodes for all
        folder = dataset_folder(arguments.dataset, tasks)
        if not arguments.tasks:
            tasks = without_missing_corpora(tasks, folder)
        key = run_key(params, tasks, folder)
        if read_key(output / RECORD) == key:
            log.info("train: '%s' is trained already with these settings and data", output)
            write_metrics(output)
            return
        parts = prepare(params.jat, params.seed, folder, tasks)
        start_work(work, key)
        checkpoint = last_checkpoint(work)
    trainer = make_trainer(params, parts, options, work)
    trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.is_world_process_zero():
        publish(trainer, parts, work, output, key)
        for checkpoint in work.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
    trainer.accelerator.wait_for_everyone()


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


def run_key(params: Params, tasks: list[str], dataset: Path) -> str:
    """What the trained weights depend on, as a hexadecimal digest."""
    hidden = {"save_every", "report_to"}
    settings = params.jat.model_dump(mode="json", exclude=hidden)
    data = {task: fingerprint(dataset, task, "train") for task in tasks}
    text = json.dumps([settings, params.seed, data], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_key(path: Path) -> str | None:
    """The run's key in a JSON file, ``None`` without one."""
    return read_json(path).get("key") if path.exists() else None


@dataclass(frozen=True)
class Parts:
    """What a run is made of."""

    model: JatModel
    processor: JatProcessor
    specs: dict[str, TaskSpec]
    sources: list[Source]


def prepare(settings: Jat, seed: int, dataset: Path, tasks: list[str]) -> Parts:
    """Load the tasks' training splits and make the processor and the network."""
    data = [load(dataset, task, "train") for task in tasks]
    tokenizer = load_tokenizer(settings.tokenizer, settings.vocab_size, data)
    config = make_config(settings, len(tokenizer))
    processor = JatProcessor(tokenizer, image_size=config.image_size)
    specs = {
        part.task: make_spec(part, context_of(settings, part, config), settings.normalise)
        for part in data
    }
    sources = [make_source(part, specs[part.task], processor) for part in data]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = JatModel(config)
    return Parts(model, processor, specs, sources)


def make_config(settings: Jat, vocab_size: int) -> JatConfig:
    """The network's configuration; UserError if the overrides do not fit."""
    known = set(JatConfig().to_dict())
    for name in settings.model:
        if name not in known:
            raise UserError(f"'jat.model.{name}' is no field of JatConfig")
    try:
        return JatConfig.preset(settings.preset, **{"vocab_size": vocab_size, **settings.model})
    except (TypeError, ValueError) as error:
        raise UserError(f"'jat.model': {error}") from None


def context_of(settings: Jat, data: TaskData, config: JatConfig) -> int:
    """Timesteps or tokens of a task's windows, within the positions of the model."""
    context = settings.context.get(data.domain, get_domain(data.domain).context)
    positions = config.max_position_embeddings
    if data.domain == "text":
        return min(context, positions)
    if data.domain == "vision":
        return min(context, positions - (config.image_size // config.patch_size) ** 2)
    return min(context, positions // 2)


def start_work(work: Path, key: str) -> None:
    """Make the folder of checkpoints; those of another run are deleted."""
    if read_key(work / "key.json") != key:
        shutil.rmtree(work, ignore_errors=True)
        write_json(work / "key.json", {"key": key})


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


def make_options(params: Params, work: Path) -> TrainingArguments:
    """Transformers' arguments, with the published optimizer: AdamW, linear to 0."""
    settings = params.jat
    cuda = torch.cuda.is_available()
    if not cuda:
        torch.set_num_threads(params.workers)
    return TrainingArguments(
        output_dir=str(work),
        max_steps=settings.steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(settings.warmup * settings.steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        use_cpu=not cuda,
        bf16=settings.precision == "bfloat16",
        seed=params.seed,
        # At a point of the curve, so that no loss is lost between the two on a resume.
        save_steps=-(-settings.save_every // settings.log_every) * settings.log_every,
        save_total_limit=2,
        logging_steps=settings.log_every,
        logging_nan_inf_filter=False,
        report_to=list(settings.report_to),
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=cuda,
        dataloader_num_workers=min(params.workers, 8) if cuda else 0,
        ddp_find_unused_parameters=True,
    )


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
    count = settings.steps * settings.accumulation * options.world_size
    plan = Plan(parts.sources, weights, budgets, count, params.seed)
    trainer = JatTrainer(parts.model, options, plan)
    trainer.add_callback(GradientGuard())
    trainer.add_callback(Progress(plan.count_tokens()[0] / settings.steps))
    trainer.add_callback(Curve(work / CURVE, domains))
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
        shutil.copy(work / CURVE, folder)
        write_json(folder / RECORD, {"key": key, **metrics})
    write_metrics(output)
    log.info("train: wrote '%s' after %d tokens", output, valid)


def write_metrics(output: Path) -> None:
    """``metrics/jat.json`` from a trained model's folder: DVC removes it before each run."""
    record = read_json(output / RECORD)
    write_json(METRICS / "jat.json", {name: record[name] for name in record if name != "key"})


if __name__ == "__main__":
    run_stage(main, "Train JAT on a dataset.", add_arguments)
