"""Show what is in a dataset: tables on the terminal, and pictures in a folder.

    python -m dataset_builder.explore artifacts/dataset                        every task
    python -m dataset_builder.explore artifacts/dataset --task atari-pong      one task

A task gets histograms of its returns and lengths and a film or a plot of the episode
of the median return; a
corpus of images a contact sheet; a corpus of documents a look at its first ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dataset_builder.pictures import (
    GRID_MS,
    GRID_SYMBOLS,
    SCREEN_MS,
    episodes_figure,
    film,
    grids,
    screens,
)
from dataset_builder.vision.contact_sheet import contact_sheet
from pipeline.errors import UserError, did_you_mean, plain
from pipeline.ownership import check_picture, mark
from pipeline.paths import ARTIFACTS, DATASET
from pipeline.shards import first_line, open_shard, read_group, read_rows, read_tables, to_numpy
from pipeline.stage import exit_with_one_line, write_atomic

SPLITS = ("train", "test")
SAMPLES = 12  # images
DOCUMENTS = 3
EXCERPT = 400  # characters
PLAIN_WIDTH = 110  # where the output is not a terminal


@dataclass(frozen=True)
class Place:
    """An episode's return and length, and where it is stored."""

    path: Path
    group: int
    row: int
    score: float
    steps: int

    def read(self) -> dict[str, Any]:
        """The episode's columns, numbers as arrays."""
        table = read_group(open_shard(self.path), self.path, self.group).slice(self.row, 1)
        return {name: to_numpy(name, table.column(name)[0]) for name in table.column_names}


def shards(folder: Path, task: str, split: str) -> list[Path]:
    """A split's files; UserError if the dataset or the task is not there."""
    tasks = task_names(folder)
    if task not in tasks:
        raise UserError(f"'{folder}' has no task '{task}'{did_you_mean(task, tasks)}")
    return sorted((folder / task).glob(f"{split}-*.parquet"))


def task_names(folder: Path) -> list[str]:
    """The tasks of a dataset: the folders with shards in them."""
    names = sorted({path.parent.name for path in folder.glob("*/*.parquet")})
    if not names:
        raise UserError(f"'{folder}' has no <task>/train-*.parquet: run `dvc repro build_dataset`")
    return names


def episodes(files: list[Path]) -> list[Place]:
    """Every episode of some shards; reads nothing but their rewards."""
    return [
        Place(path, group, row, float(rewards.sum(dtype=np.float64)), len(rewards))
        for path in files
        for group, table in enumerate(read_tables(path, ["rewards"]))
        for row, rewards in enumerate(to_numpy("rewards", cell) for cell in table.column(0))
    ]


def overview(folder: Path, tasks: list[str]) -> Table:
    """One line for every task and split."""
    table = Table(title=cell(str(folder)), box=SIMPLE_HEAD)
    for name in ("task", "split", "rows", "steps", "return", "std", "least", "most", "MB"):
        table.add_column(
            name, justify="left" if name in ("task", "split") else "right", no_wrap=True
        )
    for task in tasks:
        for split in SPLITS:
            files = shards(folder, task, split)
            rows = sum(open_shard(path).metadata.num_rows for path in files)
            size = f"{sum(path.stat().st_size for path in files) / 1e6:.2f}"
            numbers = [""] * 5
            if rows and "rewards" in open_shard(files[0]).schema_arrow.names:
                places = episodes(files)
                returns = np.array([place.score for place in places])
                numbers = [
                    f"{sum(place.steps for place in places):,}",
                    *(f"{x:.2f}" for x in (returns.mean(), returns.std())),
                    *(f"{x:.2f}" for x in (returns.min(), returns.max())),
                ]
            table.add_row(cell(task), split, f"{rows:,}", *numbers, size)
    return table


def cell(text: str) -> str:
    """A name from a file as a table shows it: neither markup nor escapes of the terminal."""
    return escape(plain(text))


def columns(files: list[Path]) -> Table:
    """The columns of a split: type, and the bytes they take up before and after compression."""
    stored: dict[str, tuple[int, int]] = {}
    for path in files:
        metadata = open_shard(path).metadata
        for group in (metadata.row_group(k) for k in range(metadata.num_row_groups)):
            for chunk in (group.column(k) for k in range(group.num_columns)):
                name = chunk.path_in_schema.partition(".")[0]
                raw, packed = stored.get(name, (0, 0))
                raw += chunk.total_uncompressed_size
                stored[name] = raw, packed + chunk.total_compressed_size
    table = Table("column", "type", box=SIMPLE_HEAD)
    table.add_column("MB", justify="right")
    table.add_column("compressed", justify="right")
    for field in open_shard(files[0]).schema_arrow:
        raw, packed = stored.get(field.name, (0, 0))
        name, type = cell(field.name), cell(type_name(field.type))
        table.add_row(name, type, f"{raw / 1e6:.2f}", f"{packed / 1e6:.2f}")
    return table


def type_name(type: pa.DataType) -> str:
    """ "list of list of float"."""
    if pa.types.is_list(type):
        return f"list of {type_name(type.value_type)}"
    if pa.types.is_struct(type):
        return "{" + ", ".join(f"{field.name}: {type_name(field.type)}" for field in type) + "}"
    return str(type)


def pictures(task: str, files: list[Path]) -> Iterator[tuple[str, bytes]]:
    """(file name, bytes) of the pictures that suit a task."""
    names = open_shard(files[0]).schema_arrow.names
    if "images" in names:
        rows = (row for path in files for row in read_rows(path, ["images", "text"]))
        samples = [row for row, _ in zip(rows, range(SAMPLES), strict=False)]
        yield (
            f"{task}.png",
            contact_sheet([(row["images"]["bytes"], row["text"]) for row in samples]),
        )
    if "rewards" not in names:
        return
    places = episodes(files)
    typical = sorted(places, key=lambda place: place.score)[len(places) // 2]
    episode = typical.read()
    returns = np.array([place.score for place in places])
    steps = np.array([place.steps for place in places])
    title = f"{task}: {len(places):,} episodes, {steps.sum():,} steps"
    yield f"{task}.png", episodes_figure(title, returns, steps, episode)
    if "frames" in names:
        yield f"{task}.gif", film(screens(episode["frames"]), SCREEN_MS)
    symbols = episode.get("discrete_observations")
    if symbols is not None and symbols.shape[1] == GRID_SYMBOLS and "text_observations" in names:
        mission = str(episode["text_observations"][0])
        yield f"{task}.gif", film(grids(symbols, mission), GRID_MS)


def documents(files: list[Path]) -> list[str]:
    """The beginnings of the first documents."""
    rows = (row["text"] for path in files for row in read_rows(path, ["text"]))
    found = [text for text, _ in zip(rows, range(DOCUMENTS), strict=False)]
    return [text if len(text) <= EXCERPT else f"{text[:EXCERPT]} …" for text in found]


def explore(folder: Path, task: str | None, split: str, output: Path) -> list[Path]:
    """Print the tables and write the pictures; returns the pictures' paths."""
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=PLAIN_WIDTH)
    console.print(overview(folder, [task] if task else task_names(folder)))
    if task is None:
        return []
    files = shards(folder, task, split)
    if not sum(open_shard(path).metadata.num_rows for path in files):
        raise UserError(f"'{task}' has no rows in the split '{split}'")
    console.print(columns(files))
    if open_shard(files[0]).schema_arrow.names == ["text"]:
        for text in documents(files):
            console.rule()
            lines = "\n".join(map(plain, text.splitlines()))
            console.print(lines, markup=False, highlight=False)
    written = []
    for suffix in (".png", ".gif"):
        check_picture(output / f"{task}{suffix}")
    try:
        for name, data in pictures(task, files):
            write_atomic(output / name, mark(data))
            written.append(output / name)
            console.print(f"wrote {output / name}", highlight=False, markup=False)
    except (OSError, SyntaxError, ValueError, LookupError, TypeError) as error:
        # Pictures and symbols from elsewhere may be anything.
        raise UserError(f"'{folder / task}' cannot be drawn ({first_line(error)})") from None
    return written


def run(arguments: argparse.Namespace) -> None:
    """Explore what the command line asks for."""
    explore(arguments.folder, arguments.task, arguments.split, arguments.output)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=DATASET, help="a dataset")
    parser.add_argument("--task", help="one of its tasks or corpora")
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--output", type=Path, default=ARTIFACTS / "explore", help="for pictures")
    arguments = parser.parse_args()
    exit_with_one_line(lambda: run(arguments))


if __name__ == "__main__":
    main()
