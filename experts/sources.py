"""Experts that need no training: scripts, the bot, and folders published on the Hub or shipped."""

import re
import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from experts.policy import load_policy
from pipeline.errors import UserError
from pipeline.stage import read_json
from pipeline.types import Task

FILES = ("config.json", "model.safetensors", "curve.csv")
"""What an expert folder may bring; everything else is left where it is."""


def scripted(task: Task) -> dict[str, Any]:
    """The description of Meta-World's scripted policy."""
    from experts.scripted import make_policy

    return {"format": 1, "kind": "scripted", "task": task.id, "policy": make_policy(task).name}


def bot(task: Task) -> dict[str, Any]:
    """The description of the BabyAI bot."""
    from experts.bot import make_policy

    if task.domain != "babyai":
        raise UserError(f"'source: bot' is for BabyAI, not for {task.id}")
    return {"format": 1, "kind": "bot", "task": task.id, "policy": make_policy(task).name}


def shipped(task: Task, folder: Path) -> dict[str, Any]:
    """Copy the expert that is part of this package."""
    source = files("experts") / "shipped" / task.id
    if not source.is_dir():
        raise UserError(f"no expert of {task.id} is shipped: use 'source: train'")
    with as_file(source) as path:
        return _copied(task, path, folder)


def hub(task: Task, source: str, folder: Path) -> dict[str, Any]:
    """Download ``hub:<repo>@<revision>``: an expert's folder, or one folder a task.

    Only the three files of an expert are fetched, none of which can hold code.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    match = re.fullmatch(r"hub:(\w[\w.-]*/\w[\w.-]*)@(\w[\w./-]*)", source)
    if not match:
        raise UserError(f"expert source '{source}' is not hub:<owner>/<repo>@<revision>")
    repo, revision = match.groups()
    wanted = [*FILES, *(f"{task.id}/{name}" for name in FILES)]
    try:
        path = Path(snapshot_download(repo, revision=revision, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"'{source}' cannot be downloaded: {reason}") from None
    return _copied(task, path / task.id if (path / task.id).is_dir() else path, folder)


def _copied(task: Task, source: Path, folder: Path) -> dict[str, Any]:
    for name in FILES:
        if (source / name).is_file():
            shutil.copy(source / name, folder / name)
    load_policy(task, folder, seed=0)
    config = read_json(folder / "config.json")
    if config["kind"] != "network":
        raise UserError(f"'{source}' is no trained expert but '{config['kind']}'")
    return config
