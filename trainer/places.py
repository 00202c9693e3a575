"""The place of a dataset or a model: a local folder, or a repository of the Hub."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pipeline.errors import UserError
from pipeline.paths import ARTIFACTS, DATASET, JAT, is_there

REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""What ``org/name`` looks like."""


def dataset_folder(dataset: str | Path, tasks: Sequence[str]) -> Path:
    """The folder with ``<task>/<split>-*-of-*.parquet``; the tasks are fetched from the Hub first.

    UserError if there is no such folder, or the Hub or the repository cannot be reached.
    """
    return _folder(dataset, "dataset", [f"{task}/*.parquet" for task in tasks], "--dataset")


def model_folder(model: str | Path, option: str = "--model") -> Path:
    """The folder of a model; fetched from the Hub first. UserError as of ``dataset_folder``.

    ``option`` is what named it on the command line.
    """
    folder = _folder(model, "model", ["*.json", "*.safetensors", "*.txt"], option)
    if not (folder / "config.json").exists():
        raise UserError(f"'{folder}' holds no model (no config.json): train one, or pass {option}")
    return folder


def _folder(
    place: str | Path, kind: Literal["dataset", "model"], patterns: list[str], option: str
) -> Path:
    folder = Path(place)
    if is_there(folder) and folder.is_dir():
        return folder
    local = folder.is_absolute() or folder.parts[:1] in ((str(ARTIFACTS),), ("..",))
    if local or not REPO.fullmatch(str(place)):
        raise UserError(
            f"no {kind} folder '{place}': make it, or pass {option} <folder or org/name>"
        )
    return _fetch(str(place), kind, patterns, option)


def _fetch(repo: str, kind: Literal["dataset", "model"], patterns: list[str], option: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    remedy = f"pass a local folder, such as {option} {DATASET if kind == 'dataset' else JAT}"
    try:
        return Path(snapshot_download(repo, repo_type=kind, allow_patterns=patterns))
    except LocalEntryNotFoundError:
        raise UserError(f"the Hub was not reachable for the {kind} '{repo}': {remedy}") from None
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"could not fetch the {kind} '{repo}' ({reason}): {remedy}") from None
