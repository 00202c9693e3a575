"""A model's folder read strictly: its weights are those that its configuration asks for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from pipeline.errors import UserError
from trainer.model.modeling_jat import JatModel
from trainer.model.processing_jat import JatProcessor

OPTIONAL = frozenset({"image_reward_encoder.weight"})
"""Weights that start at zero where a checkpoint, as the published one, has none."""


def quiet() -> None:
    """No bars and notes of Transformers among a stage's own lines."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def read_pretrained(
    folder: Path, overrides: Mapping[str, Any] | None = None
) -> tuple[JatModel, JatProcessor]:
    """A JAT in float32 and its processor; ``overrides`` are fields of its configuration.

    UserError in one line if a file is missing or broken, or if the weights do not fit.
    """
    quiet()
    try:
        model, report = JatModel.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **(overrides or {}),
        )  # pyright: ignore[reportGeneralTypeIssues]
        processor = JatProcessor.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # tokenizers raises plain ones for files of another kind
        raise UserError(f"'{folder}' holds no usable model ({first_line(error)})") from None
    strange = sorted(report["unexpected_keys"])
    missing = sorted(set(report["missing_keys"]) - OPTIONAL)
    for names, words in ((strange, "has no place for"), (missing, "asks for")):
        if names:
            raise UserError(
                f"'{folder}': its weights do not fit its config.json, which {words} "
                f"'{names[0]}' ({len(names)} tensors in all)"
            )
    known, size = len(processor.tokenizer), model.config.vocab_size
    if known > size:
        raise UserError(f"'{folder}': a tokenizer of {known} tokens for a model of {size}")
    processor.image_size = model.config.image_size  # the published files do not name it
    return model, processor


def first_line(error: Exception) -> str:
    """What an error says, cut after its first line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
