"""What one training run is asked for, as Sample Factory's checked configuration."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args

from pipeline.described import described, recipe_problem
from pipeline.errors import UserError

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
RUN = (
    "algo", "env", "experiment", "train_dir", "seed", "train_for_env_steps", "train_for_seconds",
)  # fmt: skip
"""Settings of a single run, which the parameters give elsewhere."""
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
    for key, problem in described("recipe").problems(training.recipe):
        raise UserError(f"expert recipe of {training.task}: '{key}' {problem}")
    parser, _ = parse_sf_args(argv)
    for key, value in OWN.items():
        parser.add_argument(f"--{key}", default=value)
    parser.set_defaults(**{**FIXED, **training.recipe})
    cfg = parse_full_cfg(parser, argv)
    cfg.seed, cfg.train_for_env_steps = training.seed, training.steps
    cfg.task_envs, cfg.task_options = training.envs, training.env
    cfg.task_threads, cfg.resumed_at = training.threads, resumed_at
    if problem := recipe_problem(vars(cfg), cfg.task_envs):
        raise UserError(f"expert recipe of {training.task}: {problem}")
    if cfg.device == "gpu" and not torch.cuda.is_available():
        raise UserError(
            f"expert recipe of {training.task}: 'device' is gpu, but there is no CUDA device here: "
            "remove it, or set 'gpus: 0'"
        )
    cfg.cli_args = dict(vars(cfg))  # what is set here wins over the run's saved settings
    return cfg
