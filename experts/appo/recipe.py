"""What one training run is asked for, as Sample Factory's checked configuration."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args

from pipeline.errors import UserError, did_you_mean

FIXED: dict[str, Any] = {
    "batched_sampling": True,  # the worker's environments are one batch of tensors
    "num_workers": 1,
    "num_envs_per_worker": 1,  # one batched environment; its rows are Sample Factory's agents
    "worker_num_splits": 1,
    "use_rnn": False,  # policies are functions of one observation
    "recurrence": 1,
    "use_env_info_cache": False,  # the cache is a pickle in a folder shared with other users
    "set_workers_cpu_affinity": False,  # it would pin every serial run to the same core
    "log_to_file": False,  # its file handler stays with the process's first run
    "save_best_every_sec": 10**9,  # the best moment is found on the learning curve instead
    "keep_checkpoints": 2,
    "restart_behavior": "resume",
    "with_wandb": False,
    "device": "cpu",
    "serial_mode": True,
    "async_rl": False,
    "save_every_sec": 15,
    "experiment_summaries_interval": 15,
}
"""Settings that this project needs."""
FREE = {
    "num_workers", "device", "serial_mode", "async_rl", "save_every_sec",
    "experiment_summaries_interval",
}  # fmt: skip
"""Those of them that a recipe may override."""
OWN: dict[str, Any] = {"encoder_precision": "float32"}
"""Settings that Sample Factory does not have: see ``experts/appo/encoder.py``."""
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Training:
    """One run: what to train, for how long, where its state is kept."""

    task: str
    steps: int
    """Agent steps."""
    envs: int
    recipe: dict[str, Any]
    """Sample Factory settings."""
    env: dict[str, Any]
    """Options of ``pipeline.engines.make_envs``."""
    seed: int
    folder: Path
    """Checkpoints and the running learning curve."""
    threads: int = 1
    """Threads of the environments and of torch."""


def make_config(training: Training, resumed_at: int = 0) -> Namespace:
    """Sample Factory's settings; UserError for an unknown name or a value of the wrong type."""
    argv = [
        "--algo=APPO", f"--env={training.task}", "--experiment=run",
        f"--train_dir={training.folder}",
    ]  # fmt: skip
    parser, defaults = parse_sf_args(argv)
    for key, value in OWN.items():
        parser.add_argument(f"--{key}", default=value)
        setattr(defaults, key, value)
    for key, value in training.recipe.items():
        _check_setting(training.task, key, value, vars(defaults))
    parser.set_defaults(**{**FIXED, **training.recipe})
    cfg = parse_full_cfg(parser, argv)
    cfg.seed, cfg.train_for_env_steps = training.seed, training.steps
    cfg.task_envs, cfg.task_options = training.envs, training.env
    cfg.task_threads, cfg.resumed_at = training.threads, resumed_at
    _check_batch(training.task, cfg)
    if cfg.device == "gpu" and not torch.cuda.is_available():
        raise UserError(
            f"expert recipe of {training.task}: 'device' is gpu, but there is no CUDA device here: "
            "remove it, or set 'gpus: 0'"
        )
    cfg.cli_args = dict(vars(cfg))  # what is set here wins over the run's saved settings
    return cfg


def _check_setting(task: str, key: str, value: Any, defaults: dict[str, Any]) -> None:
    where = f"expert recipe of {task}: '{key}'"
    if key not in defaults:
        raise UserError(f"{where} is no Sample Factory setting{did_you_mean(key, defaults)}")
    if key in FIXED and key not in FREE:
        raise UserError(f"{where} is fixed to {FIXED[key]!r}: remove it")
    if key == "encoder_precision" and value not in PRECISIONS:
        raise UserError(f"{where} must be one of {', '.join(PRECISIONS)} (it is {value!r})")
    default = defaults[key]
    numbers = isinstance(default, float) and type(value) in (int, float)
    if default is not None and not numbers and type(value) is not type(default):
        raise UserError(f"{where} must be of type {type(default).__name__} (it is {value!r})")


def _check_batch(task: str, cfg: Namespace) -> None:
    rollout = cfg.num_workers * cfg.task_envs * cfg.rollout
    batch = cfg.batch_size * cfg.num_batches_per_epoch
    if not cfg.async_rl and batch % rollout:
        raise UserError(
            f"expert recipe of {task}: batch_size × num_batches_per_epoch = {batch} must be a "
            f"multiple of envs × rollout = {rollout}"
        )
