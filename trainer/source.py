"""Where a dataset is: a local folder, or a repository of the Hub."""

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import UserError
from pipeline.paths import DATASET

REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""What ``org/name`` looks like."""


def dataset_folder(dataset: str | Path, tasks: Sequence[str]) -> Path:
    """The folder with ``<task>/<split>-*-of-*.parquet``; the tasks are fetched from the Hub first.

    UserError if there is no such folder, or the Hub or the repository cannot be reached.
    """
    folder = Path(dataset)
    if folder.is_dir():
        return folder
    local = folder.is_absolute() or folder.parts[:1] in ((DATASET.parts[0],), ("..",))
    if local or not REPO.fullmatch(str(dataset)):
        raise UserError(
            f"no dataset folder '{dataset}': build it, or pass --dataset <folder or org/name>"
        )
    return _fetch(str(dataset), tasks)


def _fetch(repo: str, tasks: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    remedy = f"pass a local folder, such as --dataset {DATASET}"
    try:
        patterns = [f"{task}/*.parquet" for task in tasks]
        return Path(snapshot_download(repo, repo_type="dataset", allow_patterns=patterns))
    except LocalEntryNotFoundError:
        raise UserError(f"the Hub was not reachable for the dataset '{repo}': {remedy}") from None
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"could not fetch the dataset '{repo}' ({reason}): {remedy}") from None
