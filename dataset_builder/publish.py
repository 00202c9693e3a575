"""Stage: the dataset goes to a folder or to the Hugging Face Hub, and what arrived is checked."""

import argparse
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline import manifest, paths
from pipeline.errors import UserError
from pipeline.files import SplitManifest
from pipeline.params import Params
from pipeline.publication import Publication, check_place, check_target, published, upload
from pipeline.stage import log, run_stage, write_json

RECORD = paths.ARTIFACTS / "published.json"
"""The record of where the dataset went, and what was in it."""
STATISTICS = "statistics.json"
KIND, OPTION = "dataset", "'publish.to'"


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Publish ``artifacts/dataset`` to ``publish.to``."""
    folder = paths.DATASET.resolve()
    contents = read_contents(folder)
    stop_at(file_problems(folder, contents), "build it again")
    kind, _, target = params.publish.to.partition(":")
    profile = params.profile
    if kind == "folder":
        where = to_folder(folder, Path(target), profile)
    else:
        where = to_hub(folder, target, profile)
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
        path.parent.name: manifest.read_manifest(path.parent, SplitManifest)
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


def to_folder(folder: Path, target: Path, profile: str) -> dict[str, Any]:
    """Hard links where the file system allows, copies elsewhere; checked before they take their
    places. Only what an earlier publication put there is replaced or deleted."""
    target = check_place(target, [folder], OPTION)
    marker = check_target(target, Publication(KIND, profile), OPTION, earlier_files)
    files = list(dataset_files(folder))
    with published(target, marker) as temporary:
        for file in files:
            (temporary / file).parent.mkdir(exist_ok=True)
            _link(folder / file, temporary / file)
        stop_at(file_problems(temporary, read_contents(temporary)), "is the disk full?")
    return {"files": len(files)}


def earlier_files(target: Path) -> list[str]:
    """The files of a dataset published before there were markers; empty if it is not whole."""
    try:
        contents = read_contents(target)
    except UserError:
        return []
    if file_problems(target, contents):
        return []
    names = [
        f"{name}/{file}"
        for name, content in contents.items()
        for file in (
            manifest.NAME, STATISTICS, *(entry["file"] for entry in content["files"])
        )
    ]  # fmt: skip
    return ["README.md", *(name for name in names if (target / name).is_file())]


def _link(source: Path, target: Path) -> None:
    # Only Parquet files are linked: they are never written in place, a card may be.
    if source.suffix == ".parquet":
        try:
            os.link(source, target)
            return
        except OSError:
            log.debug("%s: no hard link, copied", target)
    shutil.copyfile(source, target)


def to_hub(folder: Path, repository: str, profile: str) -> dict[str, Any]:
    """Upload to a dataset repository; what is there already is not sent again.

    Configurations that the dataset no longer has are deleted in the same commit.
    """
    files = {file.as_posix(): folder / file for file in dataset_files(folder)}
    commit = upload(repository, "dataset", files, Publication(KIND, profile), OPTION)
    return {"commit": commit.oid, "url": commit.commit_url}


if __name__ == "__main__":
    run_stage(
        main, "Publish the dataset to a folder or to the Hub.", output=lambda arguments: RECORD
    )
