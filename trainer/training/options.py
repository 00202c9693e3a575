"""Transformers' training arguments from the parameters."""

import math
from pathlib import Path

import torch
from transformers import TrainingArguments

from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.settings import Jat, is_installed
from trainer.model.modeling_jat import JatModel


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
        save_steps=save_steps(settings),
        save_total_limit=2,
        logging_steps=settings.log_every,
        logging_nan_inf_filter=False,
        report_to=trackers(settings),
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=cuda,
        dataloader_num_workers=min(params.workers, 8) if cuda else 0,
        activation_checkpointing=settings.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        # A micro-batch uses the encoders and heads of one domain.
        ddp_find_unused_parameters=True,
    )


def save_steps(settings: Jat) -> int:
    """Steps between checkpoints: where nothing that is summed over steps is lost by a resume.

    That is at points of the curve and, with adaptive sampling, where weights are set.
    """
    unit = settings.log_every
    if settings.sampling == "adaptive":
        unit = math.lcm(unit, settings.adapt_every)
    return -(-settings.save_every // unit) * unit


def check_adapt_every(settings: Jat, options: TrainingArguments) -> None:
    """UserError if the loader reads ahead into a block whose weights are not set yet."""
    prefetched = options.dataloader_num_workers * (options.dataloader_prefetch_factor or 2) + 1
    least = 2 + prefetched // settings.accumulation
    if settings.adapt_every < least:
        raise UserError(f"'jat.adapt_every' must be at least {least}, as batches are made ahead")


def trackers(settings: Jat) -> list[str]:
    """``jat.report_to``; UserError for what is not installed."""
    for name in settings.report_to:
        if not is_installed(name):
            raise UserError(
                f"'jat.report_to' names '{name}', which is not installed: "
                f"pip install {name}, or leave it out"
            )
    return list(settings.report_to)


def compile_blocks(model: JatModel) -> None:
    """Compile the transformer's blocks, all of them by the same code; UserError if it fails."""
    try:
        torch.compile(torch.neg)(torch.zeros(2, device=model.device))
    except RuntimeError as error:
        line = str(error).strip().splitlines()[0]
        raise UserError(f"'jat.compile' does not work here ({line}): set it to false") from None
    for block in model.transformer.h:
        block.compile(dynamic=True)
