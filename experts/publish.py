"""Publish the trained experts: ``python -m experts.publish --to hub:<owner>``.

A repository an expert, ``<owner>/<task>``, without pickle: what ``source: hub:<repo>@<revision>``
reads. ``folder:<path>`` writes the same as folders ``<path>/<task>``.
"""

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experts.load import load_policy
from experts.play import encode, record
from experts.sharing.card import card, curve_png
from experts.sharing.described import curve_of, describe, parameters, trained_experts
from experts.train import ExpertJob
from pipeline.errors import UserError
from pipeline.fanout import fan_out
from pipeline.params import Params
from pipeline.paths import ARTIFACTS, expanded
from pipeline.stage import log, replaced_folder, run_stage
from pipeline.tasks import get_task

FOLDER = ARTIFACTS / "published_experts"
"""The folder in which repositories are put together that go to the Hub."""
REPLAY = "replay.mp4"
"""The name under which the Hub plays a model's video."""
EPISODES, FRAMES = 3, 300
"""The most episodes and frames of the video."""


@dataclass(frozen=True)
class Publication:
    """One expert's repository."""

    job: ExpertJob
    folder: Path
    owner: str | None
    """On the Hub; None for a folder only."""


def publish(publication: Publication) -> str:
    """Put the repository together, upload it where that is asked for; where it is now."""
    assemble(publication)
    if publication.owner is None:
        return str(publication.folder)
    return to_hub(publication.folder, f"{publication.owner}/{publication.job.task}")


def assemble(publication: Publication) -> None:
    """The repository as a folder, which appears at once; left alone if it is there already."""
    job, target = publication.job, publication.folder
    task, expert, rows = get_task(job.task), describe(job), curve_of(job)
    made_by = expert.config["provenance"].get("params") or parameters(job, expert.config["mode"])
    readme = card(task, expert.config, expert.score, publication.owner, curve=bool(rows))
    files = {
        **expert.files,
        "params.yaml": yaml.safe_dump(made_by, sort_keys=False).encode(),
        "README.md": readme.encode(),
    }
    if _holds(target, [*files, REPLAY], files):
        return
    replay = record(
        task, lambda seed: load_policy(task, job.folder, seed), job.seed, job.options,
        EPISODES, FRAMES,
    )  # fmt: skip
    files[REPLAY] = encode(replay.pictures, ".mp4")
    if rows:
        files["curve.png"] = curve_png(task, rows, expert.score)
    with replaced_folder(target) as folder:
        for name, data in files.items():
            (folder / name).write_bytes(data)
        load_policy(task, folder, seed=0)


def _holds(target: Path, names: list[str], files: dict[str, bytes]) -> bool:
    """Whether ``target`` has files of these names, and these contents."""
    return all((target / name).is_file() for name in names) and all(
        (target / name).read_bytes() == data for name, data in files.items()
    )


def to_hub(folder: Path, repository: str) -> str:
    """Upload to a model repository, which is made if it is not there; the commit's address."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, HTTPError

    api: Any = HfApi()
    try:
        api.create_repo(repository, repo_type="model", exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Publish the expert"
        )
    except (HFValidationError, HTTPError, OSError, RuntimeError) as error:
        cause = error.__cause__ or error
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise UserError(
            f"cannot upload to '{repository}' ({reason}): check its name, the network and "
            "`hf auth login`"
        ) from None
    return commit.commit_url


def publications(params: Params, to: str, id: str | None) -> list[Publication]:
    """What is to be published; UserError for a bad ``to``, or one that would lose other files."""
    kind, _, target = to.partition(":")
    if kind not in ("folder", "hub") or not target or (kind == "hub" and "/" in target):
        raise UserError(
            f"--to '{to}' is not folder:<path> or hub:<owner> (each expert is a repository there)"
        )
    root = (expanded(target) if kind == "folder" else FOLDER / target).resolve()
    owner = target if kind == "hub" else None
    found = [Publication(job, root / job.task, owner) for job in trained_experts(params, id)]
    for publication in found:
        folder = publication.folder
        if folder.exists() and not (folder / "README.md").is_file():
            raise UserError(f"--to '{to}': '{folder}' exists and is no published expert")
    return found


def main(params: Params, arguments: Namespace) -> None:
    """Publish the profile's experts, each on its own."""
    found = publications(params, arguments.to, arguments.task)
    places = fan_out(
        publish,
        found,
        workers=params.workers,
        desc="publish experts",
        name=lambda publication: publication.job.task,
    )
    for publication, place in zip(found, places, strict=True):
        log.info("%s is at %s", publication.job.task, place)


def add_arguments(parser: ArgumentParser) -> None:
    """The command's own options: the target, and which expert."""
    parser.add_argument("--to", required=True, help="folder:<path> or hub:<owner>")
    parser.add_argument("--task", help="only this expert")


if __name__ == "__main__":
    run_stage(main, "Publish the trained experts.", add_arguments)
