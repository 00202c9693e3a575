"""How fast one core makes each kind of corpus, and how many bytes it takes on disk.

Text: documents of the installed packages, cleaned and deduplicated. Pictures: rendered grid
worlds; and what a photograph from outside goes through (checked, reduced, encoded), where the
time of fetching it is not counted. With ``--write`` the rows go to
``pipeline/data/measurements.json``.

    python -m benchmarks.corpus_rates --documents 2000 --pictures 300 --write
"""

import argparse
import platform
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

from benchmarks.rates import record, write_measurements
from dataset_builder.reports import files_of
from dataset_builder.text.build import build_text
from dataset_builder.text.sources import open_source
from dataset_builder.vision.build import build_vision
from dataset_builder.vision.images import checked_image
from pipeline.settings import TextCorpus, VisionCorpus

Values = list[tuple[str, float, str]]
"""(quantity, value, unit)."""


def text(documents: int, folder: Path) -> Values:
    """The installed documentation, the first ``documents`` of it."""
    everything = sum(1 for _ in open_source("installed_docs"))
    start = time.process_time()
    report = build_text(TextCorpus(limit=documents), 0, folder, workers=1)
    spent = time.process_time() - start
    read, kept = report["documents"]["in"], report["documents"]["kept"]
    on_disk = sum(file["bytes"] for file in files_of(report).values())
    return [
        ("text.rate", report["bytes"]["in"] / spent, "bytes/core-s"),
        ("text.ratio", on_disk / report["bytes"]["kept"], "bytes on disk/byte"),
        ("text.installed_docs.documents", everything, "documents"),
        ("text.installed_docs.raw", report["bytes"]["in"] / read, "bytes/document"),
        ("text.installed_docs.kept", kept / read, "share"),
    ]


def pictures(number: int, folder: Path) -> Values:
    """Grid worlds with captions, ``number`` of them."""
    corpus = VisionCorpus(name="grids", source="grids:captions", train=number, test=1)
    start = time.process_time()
    report = build_vision(corpus, 0, folder, workers=1)
    spent = time.process_time() - start
    made = report["train"]["images"] + report["test"]["images"]
    size = sum(file["bytes"] for file in files_of(report).values())
    return [
        ("vision.grids.rate", made / spent, "pictures/core-s"),
        ("vision.grids.size", size / made, "bytes/picture"),
    ]


def photographs(number: int) -> Values:
    """One photograph of 512 × 600, ``number`` times."""
    data = (files("matplotlib") / "mpl-data/sample_data/grace_hopper.jpg").read_bytes()
    reduced = checked_image(data, 224)
    start = time.process_time()
    for _ in range(number):
        checked_image(data, 224)
    spent = time.process_time() - start
    return [
        ("vision.hub.rate", number / spent, "pictures/core-s"),
        ("vision.hub.size", len(reduced), "bytes/picture"),
    ]


def main() -> None:
    """Measure all three."""
    parser = argparse.ArgumentParser(description="Measure how fast corpora are made.")
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--write", action="store_true", help="into measurements.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        values = text(arguments.documents, Path(folder) / "text")
        values += pictures(arguments.pictures, Path(folder) / "vision")
    values += photographs(arguments.pictures)
    machine = f"1 core, {platform.machine()}"
    command = (
        f"python -m benchmarks.corpus_rates --documents {arguments.documents} "
        f"--pictures {arguments.pictures}"
    )
    rows: list[dict[str, Any]] = [
        record(quantity, value, unit, machine, command) for quantity, value, unit in values
    ]
    for row in rows:
        print(row)
    if arguments.write:
        write_measurements(rows)


if __name__ == "__main__":
    main()
