"""An expert's folder -> a batched ``Policy``."""

from pathlib import Path
from typing import Any

import torch

from experts.appo.network import Architecture, load
from experts.appo.network_policy import MODES, NetworkPolicy
from pipeline.domains import get_domain
from pipeline.errors import UserError
from pipeline.files import ExpertConfig, read_model
from pipeline.shards import sha256
from pipeline.types import Policy, Task, resolve


def load_policy(task: Task, folder: Path, seed: int, threads: int = 1) -> Policy:
    """The policy of an expert folder: a network, or a script of the task's domain.

    ``seed`` decides what a sampling policy does. UserError for a missing, foreign or broken file.
    """
    path = Path(folder) / "config.json"
    config = read_model(path, ExpertConfig)
    kind = config["kind"]
    if config["task"] != task.id:
        raise UserError(f"'{path}' does not describe an expert of {task.id}: train it again")
    scripts = get_domain(task.domain).scripts
    if kind in scripts:
        return resolve(scripts[kind])(task)
    if kind != "network":
        raise UserError(f"'{path}': unknown kind '{kind}'")
    torch.set_num_threads(threads)
    return _network_policy(task, path, config, seed)


def _network_policy(task: Task, path: Path, config: dict[str, Any], seed: int) -> NetworkPolicy:
    try:
        architecture = Architecture.from_dict(config["network"])
        mode, stated = config["mode"], config["weights_sha256"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"'{path}' is not an expert's description ({error!r})") from None
    if mode not in MODES:
        raise UserError(f"'{path}': 'mode' is '{mode}', not one of {', '.join(MODES)}")
    weights = path.with_name("model.safetensors")
    network = load(weights, architecture)
    checksum = sha256(weights)
    if checksum != stated:
        raise UserError(f"'{weights}' has another checksum than its config.json states")
    column = task.modality.observation_column
    return NetworkPolicy(network, column, mode, seed, f"{task.id}-appo-{mode}", checksum)
