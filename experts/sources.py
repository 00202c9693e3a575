"""Experts that need no training: scripts, the bot, and folders published on the Hub or shipped."""

import shutil
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from experts.appo import foreign
from experts.appo.checkpoints import MAX_BYTES
from experts.appo.curve import read_curve
from experts.load import load_policy
from pipeline.domains import get_domain
from pipeline.errors import UserError
from pipeline.files import ExpertConfig, read_model
from pipeline.manifest import fingerprint
from pipeline.paths import expanded, is_there
from pipeline.settings import HUB_EXPERT
from pipeline.shards import sha256
from pipeline.types import Task, resolve

FILES = ("config.json", "model.safetensors", "curve.csv")
"""What an expert folder may bring; everything else is left where it is."""
MAX_TEXT_BYTES = 2**24
"""The most bytes of a description or a curve."""


def scripted(task: Task, source: str) -> dict[str, Any]:
    """The description of one of the domain's scripts, such as Meta-World's or the BabyAI bot."""
    scripts = get_domain(task.domain).scripts
    if source not in scripts:
        known = ", ".join(scripts) or "none"
        raise UserError(f"'source: {source}' is not for {task.id} (scripts of its domain: {known})")
    policy = resolve(scripts[source])(task)
    return {"format": 1, "kind": source, "task": task.id, "policy": policy.name}


def shipped_root() -> Traversable:
    """The experts that are part of this package, a folder a task."""
    return files("experts") / "shipped"


def shipped(task: Task, folder: Path) -> dict[str, Any]:
    """Copy the expert that is part of this package."""
    source = shipped_root() / task.id
    if not source.is_dir():
        raise UserError(f"no expert of {task.id} is shipped: use 'source: train'")
    with as_file(source) as path:
        return _copied(task, path, folder)


def shipped_checksum(task: Task) -> str:
    """The checksum of the expert that is part of this package; "" without one."""
    with as_file(shipped_root() / task.id) as path:
        return _checksum(path) if path.is_dir() else ""


def hub(task: Task, source: str, folder: Path, env: dict[str, Any]) -> dict[str, Any]:
    """Download ``hub:<repo>@<revision>`` and take it over: an expert's folder or a training folder
    of Sample Factory, or one of them a task.

    Only files that an expert needs are fetched, once their sizes are known.
    """
    from huggingface_hub import is_offline_mode, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    match = HUB_EXPERT.fullmatch(source)
    if not match:
        raise UserError(f"expert source '{source}' is not hub:<owner>/<repo>@<revision>")
    repo, revision = match.groups()
    names = (*FILES, *foreign.FILES)
    wanted = [*names, *(f"{task.id}/{name}" for name in names)]
    try:
        if not is_offline_mode():  # what is in the cache already needs no check
            listed = snapshot_download(repo, revision=revision, allow_patterns=wanted, dry_run=True)
            if sum(file.file_size or 0 for file in listed) > MAX_BYTES:
                raise UserError(f"'{source}' has more than {MAX_BYTES // 2**20} MiB")
        path = Path(snapshot_download(repo, revision=revision, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"'{source}' cannot be downloaded: {reason}") from None
    origin = {"repository": repo, "revision": revision, "commit": path.name}
    return _taken_over(task, path, folder, env, origin)


def absolute(source: str) -> str:
    """The source with the whole path of ``file:<path>``: workers may have other folders."""
    kind, _, path = source.partition(":")
    return f"file:{expanded(path).resolve()}" if kind == "file" else source


def file(task: Task, source: str, folder: Path, env: dict[str, Any]) -> dict[str, Any]:
    """Take over ``file:<path>``: a folder as ``hub`` reads it, or a checkpoint of Sample Factory
    with its configuration beside it.
    """
    path = _path(source)
    return _taken_over(task, path, folder, env, {"path": str(path)})


def file_checksum(task: Task, source: str) -> str:
    """The checksum of what ``file:<path>`` holds for this task: other content, another expert."""
    path = _of_task(task, _path(source))
    checkpoint = foreign.find_checkpoint(path)
    if checkpoint:
        files = [checkpoint, foreign.find_settings(checkpoint)]
    else:
        return _checksum(path)
    return fingerprint({file.name: sha256(file) for file in files})


def _checksum(folder: Path) -> str:
    files = [folder / name for name in FILES if (folder / name).is_file()]
    return fingerprint({file.name: sha256(file) for file in files})


def _path(source: str) -> Path:
    path = Path(source.removeprefix("file:"))
    if not is_there(path):
        raise UserError(f"expert source '{source}' does not exist")
    return path


def _of_task(task: Task, path: Path) -> Path:
    return path / task.id if (path / task.id).is_dir() else path


def _taken_over(
    task: Task, path: Path, folder: Path, env: dict[str, Any], origin: dict[str, str]
) -> dict[str, Any]:
    path = _of_task(task, path)
    checkpoint = foreign.find_checkpoint(path)
    if checkpoint is None:
        return {**_copied(task, path, folder), "origin": origin}
    config = foreign.convert(task, checkpoint, folder, env)
    return {**config, "origin": {**origin, "file": checkpoint.name, "sha256": sha256(checkpoint)}}


def _copied(task: Task, source: Path, folder: Path) -> dict[str, Any]:
    for name in FILES:
        if (source / name).is_file():
            limit = MAX_BYTES if name == "model.safetensors" else MAX_TEXT_BYTES
            if (source / name).stat().st_size > limit:
                raise UserError(f"'{source / name}' is larger than {limit // 2**20} MiB")
            shutil.copy(source / name, folder / name)
    load_policy(task, folder, seed=0)
    config = read_model(folder / "config.json", ExpertConfig)
    if config["kind"] != "network" or "steps" not in config:
        raise UserError(f"'{source}' is no trained expert but '{config['kind']}'")
    if (folder / "curve.csv").exists():
        read_curve(folder / "curve.csv")
    return config
