"""Make the profile's good experts part of this package: ``python -m experts.ship --params FILE``.

They are what ``source: shipped`` copies. Only networks that the gate calls ``expert`` are taken.
"""

from argparse import Namespace
from collections.abc import Collection
from pathlib import Path

from experts.sharing.described import describe, trained_experts
from experts.sources import shipped_root
from experts.train import ExpertJob
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.stage import log, replaced_folder, run_stage

LIMIT = 10_000_000
"""Bytes of all shipped experts together: they are in every copy of the package."""


def size(root: Path, but: Collection[str] = ()) -> int:
    """Bytes of the experts in ``root``, those of the tasks ``but`` left out."""
    folders = [path for path in root.glob("[!.]*") if path.is_dir() and path.name not in but]
    return sum(file.stat().st_size for folder in folders for file in folder.iterdir())


def ship(jobs: list[ExpertJob], root: Path) -> list[str]:
    """Write the good ones of these experts to ``root``, each at once; their tasks.

    UserError, and nothing written, when none is good or they would exceed ``LIMIT`` together.
    """
    chosen = {}
    for job in jobs:
        expert = describe(job)
        if expert.score["verdict"] == "expert":
            chosen[job.task] = expert.files
        else:
            log.info("%s is left out: the gate calls it %s", job.task, expert.score["verdict"])
    if not chosen:
        raise UserError("the gate calls none of these experts 'expert': nothing is shipped")
    new = sum(len(data) for files in chosen.values() for data in files.values())
    total = new + size(root, but=chosen)
    if total > LIMIT:
        raise UserError(
            f"the shipped experts would have {total:,} bytes together, at most {LIMIT:,} are "
            f"allowed: name fewer tasks, or remove folders from '{root}'"
        )
    for task, files in chosen.items():
        with replaced_folder(root / task) as folder:
            for name, data in files.items():
                (folder / name).write_bytes(data)
        log.info("%s: %d bytes", task, sum(map(len, files.values())))
    return list(chosen)


def main(params: Params, arguments: Namespace) -> None:
    """Ship them."""
    root = Path(str(shipped_root()))
    tasks = ship(trained_experts(params), root)
    log.info("%d experts in %s, %d bytes with those before", len(tasks), root, size(root))


if __name__ == "__main__":
    run_stage(main, "Make the profile's good experts part of this package.")
