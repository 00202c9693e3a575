"""Bytes and reading speed of Atari episodes: our layout against the one that JAT was published in.

    python -m benchmarks.storage artifacts/episodes/atari --json

Both sides are written here from the same episodes: ours by the pipeline, newest frames once; the
published one by `dataset_builder.export`, every observation a PNG of its four frames. Then, in each
round one after the other,

- read: all episodes in their order, 32 steps at a time, as arrays ready for a model: uint8
  observations of four frames, actions, rewards. Ours straight from Parquet, stacks copied
  out; theirs through `datasets`, whose Image feature decodes the pictures. Its conversion to
  memory-mapped Arrow is not counted.
- windows: the observations of 32 steps at random places; ours from the trainer's memory-mapped
  cache, theirs from that of `datasets`. Neither conversion is counted.

That both sides give the same arrays is checked first. Rates and ratios are medians over the rounds.
"per core-second" counts processor time, which a busy machine hardly changes.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from dataset_builder.export import write_split
from pipeline import frames, schema
from pipeline.domains.atari import MODALITY
from pipeline.errors import UserError
from pipeline.seeds import sequence
from pipeline.shards import read_rows, read_tables, write_files
from pipeline.stage import exit_with_one_line
from pipeline.tasks import tasks_of
from trainer.feed.data import load

CONTEXT = 32  # steps of a window, as in JAT's training on Atari
WINDOWS = 200  # in a round
CLOCKS = {"s": time.perf_counter, "core-s": time.process_time}
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Observations uint8 (T, four frames in the layout's order), actions and rewards (T,)."""
Window = tuple[int, int]
"""Episode, first step."""


def read_ours(files: list[Path]) -> Iterator[Arrays]:
    """Every episode in windows of 32 steps; observations are (T, 4, 84, 84)."""
    for path in files:
        for row in read_rows(path, ["frames", "discrete_actions", "rewards"]):
            stacks = frames.stack(row["frames"])
            for part in _parts(len(stacks)):
                observations = np.ascontiguousarray(stacks[part])
                yield observations, row["discrete_actions"][part], row["rewards"][part]


def read_published(rows: Iterable[Any]) -> Iterator[Arrays]:
    """Every row of a `datasets.Dataset` in windows of 32 steps; observations are (T, 84, 84, 4).

    Stacking Pillow's pictures is faster than the "numpy" format of `datasets`.
    """
    for row in rows:
        actions, rewards = np.array(row["discrete_actions"]), np.array(row["rewards"], np.float32)
        for part in _parts(len(actions)):
            pictures = row["image_observations"][part]
            observations = np.stack([np.asarray(picture) for picture in pictures])
            yield observations, actions[part], rewards[part]


def _parts(steps: int) -> list[slice]:
    return [slice(start, start + CONTEXT) for start in range(0, steps, CONTEXT)]


def window_ours(arrays: dict[str, Any], window: Window) -> np.ndarray:
    """Observations (32, 4, 84, 84) from the trainer's cache."""
    episode, step = window
    start = arrays["offsets"][episode] + step + 3 * episode  # 3 older frames an episode
    shown = arrays["frames"][start : start + CONTEXT + 3]
    views = np.lib.stride_tricks.sliding_window_view(shown, 4, axis=0)
    return np.ascontiguousarray(np.moveaxis(views, -1, 1))


def window_published(rows: Any, window: Window) -> np.ndarray:
    """Observations (32, 84, 84, 4) from a `datasets.Dataset` in the "arrow" format.

    Only the window's pictures are decoded.
    """
    episode, step = window
    cell = rows[episode]["image_observations"][0]
    decode = datasets.Image().decode_example
    pictures = cell.values.slice(step, CONTEXT).to_pylist()
    return np.stack([np.asarray(decode(picture)) for picture in pictures])


def draw_windows(lengths: np.ndarray, task: str) -> list[Window]:
    """Random episodes, in proportion to their lengths, and steps."""
    rng = np.random.default_rng(sequence(0, task, "windows"))
    room = np.maximum(lengths - CONTEXT + 1, 1)
    episodes = rng.choice(len(lengths), WINDOWS, p=room / room.sum())
    return [(int(episode), int(rng.integers(room[episode]))) for episode in episodes]


def measure(task: str, shards: list[Path], rounds: int) -> dict[str, Any]:
    """Sizes, rates and ratios of one game."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = (table for path in shards for table in read_tables(path))
        files = {
            "ours": write_files(_new(folder / "ours" / task), "train", _schema(), tables),
            "published": write_split(shards, folder / "published" / task, "train"),
        }
        arrays = load(folder / "ours", task, "train", folder / "cache").arrays
        rows = datasets.Dataset.from_parquet(
            [str(path) for path in files["published"]], cache_dir=str(folder / "arrow")
        )
        assert isinstance(rows, datasets.Dataset)
        cells = rows.with_format("arrow")
        windows = draw_windows(np.diff(arrays["offsets"]), task)
        check(read_ours(files["ours"]), read_published(rows))
        for window in windows[:10]:
            _check_equal(window_ours(arrays, window), window_published(cells, window))
        steps = int(arrays["offsets"][-1])
        sizes = {
            side: sum(path.stat().st_size for path in paths) / steps
            for side, paths in files.items()
        }
        read = {
            "ours": lambda: sum(len(rewards) for *_, rewards in read_ours(files["ours"])),
            "published": lambda: sum(len(rewards) for *_, rewards in read_published(rows)),
        }
        seek = {
            "ours": lambda: sum(len(window_ours(arrays, window)) for window in windows),
            "published": lambda: sum(len(window_published(cells, window)) for window in windows),
        }
        return {
            "steps": steps,
            "bytes/step": sizes,
            "smaller": sizes["published"] / sizes["ours"],
            "read": compare(read, rounds),
            "windows": compare(seek, rounds),
        }


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _schema() -> pa.Schema:
    return schema.arrow_schema(MODALITY)


def check(ours: Iterable[Arrays], published: Iterable[Arrays]) -> None:
    """ValueError unless both sides give the same numbers; this warms them up as well."""
    for mine, theirs in zip(ours, published, strict=True):
        _check_equal(mine[0], theirs[0])
        if not all(map(np.array_equal, mine[1:], theirs[1:])):
            raise ValueError("the layouts differ in their actions or rewards")


def _check_equal(ours: np.ndarray, published: np.ndarray) -> None:
    if not np.array_equal(ours, np.moveaxis(published, -1, 1)):
        raise ValueError("the layouts differ in their observations")


def compare(sides: dict[str, Callable[[], int]], rounds: int) -> dict[str, Any]:
    """For each clock the sides' median rates, and the median of the ratios of a round."""
    rates: dict[str, dict[str, list[float]]] = {
        unit: {side: [] for side in sides} for unit in CLOCKS
    }
    for number in range(rounds):
        for side in sorted(sides, reverse=number % 2 == 1):
            before = {unit: clock() for unit, clock in CLOCKS.items()}
            steps = sides[side]()
            for unit, clock in CLOCKS.items():
                rates[unit][side].append(steps / (clock() - before[unit]))
    result: dict[str, Any] = {}
    for unit, found in rates.items():
        pairs = zip(found["ours"], found["published"], strict=True)
        result[f"steps/{unit}"] = {side: median(values) for side, values in found.items()}
        result[f"faster/{unit}"] = median(ours / theirs for ours, theirs in pairs)
    return result


def find_shards(folder: Path, tasks: list[str] | None) -> dict[str, list[Path]]:
    """Game -> its shards below a folder; UserError where there are none."""
    games = [task.id for task in tasks_of("atari")]
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.parquet")):
        if path.parent.name in (tasks or games):
            found.setdefault(path.parent.name, []).append(path)
    missing = sorted(set(tasks or []) - set(found))
    if missing or not found:
        raise UserError(
            f"'{folder}' has no shards of {', '.join(missing) or 'any Atari game'}: "
            "collect them, or name another folder"
        )
    return found


def main() -> None:
    """Print one line a game, and the geometric means of the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="episodes or a dataset with Atari games in it")
    parser.add_argument("--tasks", nargs="+", help="by default all games that are there")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    datasets.disable_progress_bars()

    def run() -> None:
        results = {
            task: show(task, measure(task, shards, arguments.rounds))
            for task, shards in find_shards(arguments.folder, arguments.tasks).items()
        }
        means = {
            name: geometric_mean(ratios(found)[name] for found in results.values())
            for name in ratios(next(iter(results.values())))
        }
        shown = ", ".join(f"{value:.1f}× {name}" for name, value in means.items())
        print(f"geometric mean of {len(results)} games: {shown}")
        if arguments.json:
            print(json.dumps({"games": results, "geometric mean": means}))

    exit_with_one_line(run)


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """What is claimed, for one game."""
    return {
        "smaller": found["smaller"],
        "faster to read": found["read"]["faster/s"],
        "faster per core-second": found["read"]["faster/core-s"],
        "faster in windows": found["windows"]["faster/s"],
        "faster in windows per core-second": found["windows"]["faster/core-s"],
    }


def show(task: str, found: dict[str, Any]) -> dict[str, Any]:
    """Print one game's lines; returns what it was given."""
    shown = ", ".join(f"{value:.1f}× {name}" for name, value in ratios(found).items())
    print(f"{task}: {found['steps']} steps: {shown}")
    for name in ("bytes/step", "read", "windows"):
        values = found[name] if name == "bytes/step" else found[name]["steps/s"]
        unit = "" if name == "bytes/step" else " (steps/s)"
        sides = ", ".join(f"{side} {value:,.0f}" for side, value in values.items())
        print(f"  {name}{unit}: {sides}", flush=True)
    return found


if __name__ == "__main__":
    main()
