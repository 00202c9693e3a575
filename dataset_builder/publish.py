"""Stage: the dataset goes to a folder or to the Hugging Face Hub, and what arrived is checked."""

import argparse
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline import manifest, paths
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.stage import log, replaced_folder, run_stage, write_json

RECORD = paths.ARTIFACTS / "published.json"
"""The record of where the dataset went, and what was in it."""


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Publish ``artifacts/dataset`` to ``publish.to``."""
    folder = paths.DATASET.resolve()
    contents = read_contents(folder)
    stop_at(file_problems(folder, contents), "build it again")
    kind, _, target = params.publish.to.partition(":")
    where = to_folder(folder, Path(target)) if kind == "folder" else to_hub(folder, target)
    sums = {
        f"{name}/{entry['file']}": entry["sha256"]
        for name, content in contents.items()
        for entry in content["files"]
    }
    write_json(RECORD, {"to": params.publish.to, **where, "sha256": sums})
    log.info("published to %s", params.publish.to)


def read_contents(folder: Path) -> dict[str, dict[str, Any]]:
    """Configuration -> its manifest; UserError if the dataset has none."""
    contents = {
        path.parent.name: manifest.read_manifest(path.parent)
        for path in sorted(folder.glob(f"*/{manifest.NAME}"))
    }
    if not contents or not (folder / "README.md").is_file():
        raise UserError(f"'{folder}' holds no dataset: run `python -m dataset_builder.build`")
    return contents


def file_problems(folder: Path, contents: dict[str, dict[str, Any]]) -> list[str]:
    """One line for each file that is not as its manifest says."""
    return [
        problem
        for name, content in contents.items()
        for problem in manifest.file_problems(folder / name, content["files"])
    ]


def stop_at(problems: list[str], remedy: str) -> None:
    """UserError with the first problem, if there is any."""
    if problems:
        raise UserError(f"{problems[0]} ({len(problems)} problem(s) in all): {remedy}")


def dataset_files(folder: Path) -> Iterator[Path]:
    """Every file of the dataset, relative to its folder: the card, and the configurations'."""
    yield Path("README.md")
    for path in sorted(folder.glob(f"*/{manifest.NAME}")):
        for file in sorted(path.parent.iterdir()):
            yield file.relative_to(folder)


def to_folder(folder: Path, target: Path) -> dict[str, Any]:
    """Hard links where the file system allows, copies elsewhere; the target changes at once."""
    target = target.expanduser().resolve()
    if target == folder or folder in target.parents or target in folder.parents:
        raise UserError(f"'publish.to' names '{target}', which overlaps with the dataset itself")
    if not _replaceable(target):
        raise UserError(
            f"'{target}' holds something other than a published dataset: "
            "empty it, or name another folder in 'publish.to'"
        )
    with replaced_folder(target) as temporary:
        for file in dataset_files(folder):
            (temporary / file).parent.mkdir(exist_ok=True)
            _link(folder / file, temporary / file)
        stop_at(file_problems(temporary, read_contents(temporary)), "is the disk full?")
    return {"files": len(list(dataset_files(target)))}


def _replaceable(target: Path) -> bool:
    """Whether nothing but a dataset published earlier would be lost."""
    if not target.exists():
        return True
    if not target.is_dir():
        return False
    others = [path for path in target.iterdir() if path.name != "README.md"]
    return all((path / manifest.NAME).is_file() for path in others)


def _link(source: Path, target: Path) -> None:
    # Only Parquet files are linked: they are never written in place, a card may be.
    if source.suffix == ".parquet":
        try:
            os.link(source, target)
            return
        except OSError:
            log.debug("%s: no hard link, copied", target)
    shutil.copyfile(source, target)


def to_hub(folder: Path, repository: str) -> dict[str, Any]:
    """Upload to a dataset repository; what is there already is not sent again.

    Configurations that the dataset no longer has are deleted in the same commit.
    """
    from huggingface_hub import HfApi

    # The package of the Hub's HTTP client changes its name between releases.
    from huggingface_hub.errors import (
        HFValidationError,
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]
    )

    api = HfApi()
    try:
        api.create_repo(repository, repo_type="dataset", exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=folder,
            allow_patterns=[str(file) for file in dataset_files(folder)],
            delete_patterns="*",
            commit_message="Publish the dataset",
        )
    except HFValidationError as error:
        raise UserError(f"'publish.to': '{repository}' is no repository's name: {error}") from None
    except (HTTPError, OSError, RuntimeError) as error:
        cause = error.__cause__ or error
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise UserError(
            f"cannot upload to '{repository}' ({reason}): check the network and `hf auth login`, "
            "then run the stage again; it goes on from there"
        ) from None
    return {"commit": commit.oid, "url": commit.commit_url}


if __name__ == "__main__":
    run_stage(
        main, "Publish the dataset to a folder or to the Hub.", output=lambda arguments: RECORD
    )
