"""Publish the trained experts: ``python -m experts.publish --to hub:<owner>``.

A repository an expert, ``<owner>/<task>``, without pickle: what ``source: hub:<repo>@<revision>``
reads. ``folder:<path>`` writes the same as folders ``<path>/<task>``.
"""

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from experts.load import load_policy
from experts.play import encode, record
from experts.sharing.card import card, curve_png
from experts.sharing.described import curve_of, describe, parameters, trained_experts
from experts.train import ExpertJob
from pipeline.errors import UserError
from pipeline.fanout import fan_out
from pipeline.ownership import read_record
from pipeline.params import Params
from pipeline.paths import PUBLISHED_EXPERTS
from pipeline.publication import (
    Publication,
    check_place,
    check_target,
    published,
    upload,
)
from pipeline.stage import log, run_stage
from pipeline.tasks import get_task

REPLAY, CURVE, CONFIG = "replay.mp4", "curve.png", "config.json"
"""``replay.mp4`` is the name under which the Hub plays a model's video."""
EXPERT_FILES = ("score.json", "model.safetensors", "curve.csv")
OPTION = "--to"
EPISODES, FRAMES = 3, 300
"""The most episodes and frames of the video."""


@dataclass(frozen=True)
class Repository:
    """One expert's repository."""

    job: ExpertJob
    folder: Path
    marker: Publication
    """What is at ``folder`` now."""
    owner: str | None
    """On the Hub; None for a folder only."""


def publish(repository: Repository) -> str:
    """Put the repository together, upload it where that is asked for; where it is now."""
    names = assemble(repository)
    if repository.owner is None:
        return str(repository.folder)
    task = repository.job.task
    files = {name: repository.folder / name for name in names}
    commit = upload(f"{repository.owner}/{task}", "model", files, _marker(task), OPTION)
    return commit.commit_url


def assemble(repository: Repository) -> list[str]:
    """The repository as a folder, left alone if it is there already; the names of its files."""
    job, target = repository.job, repository.folder
    task, expert, rows = get_task(job.task), describe(job), curve_of(job)
    made_by = expert.config["provenance"].get("params") or parameters(job, expert.config["mode"])
    readme = card(task, expert.config, expert.score, repository.owner, curve=bool(rows))
    files = {
        **expert.files,
        "params.yaml": yaml.safe_dump(made_by, sort_keys=False).encode(),
        "README.md": readme.encode(),
    }
    names = [*files, REPLAY, *([CURVE] if rows else [])]
    if set(repository.marker.files) == set(names) and _holds(target, names, files):
        return names
    replay = record(
        task, lambda seed: load_policy(task, job.folder, seed), job.seed, job.options,
        EPISODES, FRAMES,
    )  # fmt: skip
    files[REPLAY] = encode(replay.pictures, ".mp4")
    if rows:
        files[CURVE] = curve_png(task, rows, expert.score)
    try:
        with published(target, repository.marker) as folder:
            for name, data in files.items():
                (folder / name).write_bytes(data)
            load_policy(task, folder, seed=0)
    except OSError as error:
        raise UserError(f"cannot write to '{target}' ({error}): check --to") from None
    return names


def _holds(target: Path, names: list[str], files: dict[str, bytes]) -> bool:
    """Whether ``target`` has files of these names, and these contents."""
    return all((target / name).is_file() for name in names) and all(
        (target / name).read_bytes() == data for name, data in files.items()
    )


def repositories(params: Params, to: str, id: str | None) -> list[Repository]:
    """What is to be published; UserError for a bad ``to``, or one that would lose other files."""
    kind, _, target = to.partition(":")
    if kind not in ("folder", "hub") or not target or (kind == "hub" and "/" in target):
        raise UserError(
            f"--to '{to}' is not folder:<path> or hub:<owner> (each expert is a repository there)"
        )
    root = check_place(Path(target) if kind == "folder" else PUBLISHED_EXPERTS / target, [], OPTION)
    owner = target if kind == "hub" else None
    found = []
    for job in trained_experts(params, id):
        folder = check_place(root / job.task, [job.folder], OPTION)
        marker = check_target(folder, _marker(job.task), OPTION, partial(earlier_files, job.task))
        found.append(Repository(job, folder, marker, owner))
    return found


def _marker(task: str) -> Publication:
    return Publication("expert", task)


def earlier_files(task: str, folder: Path) -> list[str]:
    """The files of an expert published before there were markers; empty if it is none."""
    if not (folder / CONFIG).is_file():
        return []
    config = read_record(folder / CONFIG)
    if not isinstance(config, dict) or "score" not in (config.get("provenance") or {}):
        return []
    load_policy(get_task(task), folder, seed=0)
    names = ("README.md", "params.yaml", REPLAY, CURVE, CONFIG, *EXPERT_FILES)
    return [name for name in names if (folder / name).is_file()]


def main(params: Params, arguments: Namespace) -> None:
    """Publish the profile's experts, each on its own."""
    found = repositories(params, arguments.to, arguments.task)
    places = fan_out(
        publish,
        found,
        workers=params.workers,
        desc="publish experts",
        name=lambda repository: repository.job.task,
    )
    for repository, place in zip(found, places, strict=True):
        log.info("%s is at %s", repository.job.task, place)


def add_arguments(parser: ArgumentParser) -> None:
    """The command's own options: the target, and which expert."""
    parser.add_argument("--to", required=True, help="folder:<path> or hub:<owner>")
    parser.add_argument("--task", help="only this expert")


if __name__ == "__main__":
    run_stage(main, "Publish the trained experts.", add_arguments)
