"""Check a dataset: ``python -m dataset_builder.validate artifacts/dataset --replay 2``.

Every problem is one line that names the file; the exit code is 2 if there is any.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataset_builder import replay, splits
from dataset_builder.statistics import DocumentStatistics, EpisodeStatistics
from pipeline import engines, frames, manifest, schema
from pipeline.errors import UserError
from pipeline.fanout import fan_out
from pipeline.files import DatasetManifest, read_model
from pipeline.params import load_params
from pipeline.shards import open_shard
from pipeline.stage import exit_with_one_line, log
from pipeline.tasks import get_task
from pipeline.types import Modality

STATISTICS = "statistics.json"
Finding = tuple[int, str]
"""Row of the table, and what is wrong with it."""


@dataclass(frozen=True)
class ConfigurationCheck:
    """One configuration to check."""

    folder: Path
    replay: int

    def __str__(self) -> str:
        return self.folder.name


@dataclass(frozen=True)
class Ranges:
    """What an environment's rows may hold."""

    width: int
    """Numbers in an observation; 0 for frames."""
    actions: int
    """How many discrete actions there are; 0 for continuous ones."""
    low: np.ndarray
    high: np.ndarray
    """Bounds of continuous actions, one a dimension."""


def check_or_stop(folder: str | Path, replay: int, workers: int) -> None:
    """Log every problem of a dataset; UserError if there is any."""
    problems = find_problems(folder, replay, workers)
    for problem in problems:
        log.error("%s", problem)
    if problems:
        raise UserError(f"'{folder}' has {len(problems)} problem(s), the first: {problems[0]}")


def find_problems(folder: str | Path, replay: int = 0, workers: int = 1) -> list[str]:
    """One line for each problem of a dataset; ``replay`` episodes a task are played again.

    UserError if the folder is no dataset at all.
    """
    folder = Path(folder).resolve()
    configurations = sorted(path.parent for path in folder.glob(f"*/{manifest.NAME}"))
    if not configurations:
        raise UserError(f"'{folder}' holds no dataset: give the folder that the build stage wrote")
    problems = [] if (folder / "README.md").is_file() else [f"{folder / 'README.md'}: missing"]
    checks = [ConfigurationCheck(path, replay) for path in configurations]
    for found in fan_out(check, checks, workers=workers, desc="validate (configurations)"):
        problems += found
    return problems


def check(job: ConfigurationCheck) -> list[str]:
    """The problems of one configuration."""
    try:
        content = manifest.read_manifest(job.folder, DatasetManifest)
        problems = manifest.file_problems(job.folder, content["files"])
        if content["task"] != job.folder.name:
            problems.append(f"{job.folder / manifest.NAME}: is about '{content['task']}'")
        known = {entry["file"] for entry in content["files"]} | {manifest.NAME, STATISTICS}
        problems += [
            f"{path}: not in the manifest"
            for path in sorted(job.folder.iterdir())
            if path.name not in known
        ]
        if problems:
            return problems
        problems = list(content_problems(job.folder, content))
        if not problems and job.replay and modality_of(content).episodic:
            problems += replay.find_problems(job.folder, content, job.replay)
        return problems
    except UserError as error:
        return [str(error)]


def content_problems(folder: Path, content: dict[str, Any]) -> Iterator[str]:
    """Problems within files whose bytes are those of the manifest."""
    modality = modality_of(content)
    episodic = modality.episodic
    ranges = ranges_of(content) if episodic else None
    statistics: dict[str, EpisodeStatistics | DocumentStatistics] = {}
    contents: dict[splits.Digest, str] = {}
    for entry in content["files"]:
        path, split = folder / entry["file"], entry["split"]
        file = open_shard(path)
        if not file.schema_arrow.equals(schema.arrow_schema(modality)):
            yield f"{path}: its columns are not those of schema {schema.VERSION}"
            continue
        if file.metadata.num_rows != entry["rows"]:
            yield f"{path}: {file.metadata.num_rows} rows, the manifest says {entry['rows']}"
        new = EpisodeStatistics if episodic else DocumentStatistics
        seen = statistics.setdefault(split, new())
        first_row = 0
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            found = list(null_problems(table))
            if not found and ranges:
                found = list(episode_problems(table, ranges))
            if not found:
                found = list(leak_problems(table, modality, split, contents))
            yield from (f"{path}: row {first_row + row}: {what}" for row, what in found)
            if found:
                return
            seen.add(table)
            first_row += len(table)
    distinct = content.get("distinct")
    if distinct not in (None, len(contents)):
        yield f"{folder / manifest.NAME}: says {distinct} distinct episodes, not {len(contents)}"
    stored = read_model(folder / STATISTICS, dict[str, Any])
    for split, seen in statistics.items():
        if not alike(seen.summary(), stored.get(split)):
            yield f"{folder / STATISTICS}: '{split}' does not describe the files"


def modality_of(content: dict[str, Any]) -> Modality:
    """What the rows of a configuration are made of, by its manifest."""
    return Modality(**content["modality"])


def ranges_of(content: dict[str, Any]) -> Ranges:
    """What the task's environment allows."""
    task = get_task(content["task"])
    options = engines.stored_options(task, content["provenance"]["decides"]["env"])
    envs = engines.make_envs(task, [0], **options)
    try:
        space = envs.action_space
        image = task.modality.observation == "image"
        width = 0 if image else envs.observation_space.shape[-1]
        if hasattr(space, "n"):
            return Ranges(width, int(space.n), np.zeros(0), np.zeros(0))
        # Actions are clipped and stored in float32, where some bounds (0.4) are a little further.
        return Ranges(width, 0, space.low.astype(np.float32), space.high.astype(np.float32))
    finally:
        envs.close()


def null_problems(table: pa.Table) -> Iterator[Finding]:
    """Missing values, at any depth."""
    for name in table.column_names:
        array = table.column(name).combine_chunks()
        while True:
            if array.null_count:
                yield 0, f"or a later one: '{name}' has missing values"
                break
            if not pa.types.is_list(array.type):
                break
            array = array.flatten()


def episode_problems(table: pa.Table, ranges: Ranges) -> Iterator[Finding]:
    """The first row of a table that breaks each rule of an episode."""
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    steps = _lengths(columns["rewards"])
    yield from _where(steps == 0, "no steps")
    per_step = {
        name: array
        for name, array in columns.items()
        if pa.types.is_list(array.type) and name != "final_observation"
    }
    for name, array in per_step.items():
        lengths = _lengths(array)
        wrong = list(_where(lengths != steps, f"'{name}' has not one value a step"))
        yield from wrong
        if not wrong:
            yield from _step_problems(name, array, np.repeat(np.arange(len(table)), steps), ranges)
    final = columns["final_observation"]
    width = ranges.width or frames.FRAME_BYTES
    yield from _where(_lengths(final) != width, f"'final_observation' is not {width} wide")
    if pa.types.is_list(final.type):
        finite = np.isfinite(final.flatten().to_numpy())
        yield from _where(~finite, "'final_observation' is not finite", _owners(final))
    ends = columns["terminated"].to_numpy(zero_copy_only=False).astype(int)
    ends = ends + columns["truncated"].to_numpy(zero_copy_only=False)
    yield from _where(ends != 1, "neither or both of terminated and truncated")
    seeds = columns["seed"].to_numpy()
    yield from _where((seeds < 0) | (seeds >= 2**31), "'seed' is outside [0, 2^31)")
    yield from _where(columns["reset_index"].to_numpy() < 0, "'reset_index' is negative")


def _step_problems(
    name: str, array: pa.ListArray, rows: np.ndarray, ranges: Ranges
) -> Iterator[Finding]:
    """Problems of one column with a value a step; ``rows`` has the row of each step."""
    values = array.flatten()
    if pa.types.is_binary(values.type):
        sizes = _lengths(values)
        yield from _where(sizes != frames.FRAME_BYTES, f"a frame of '{name}' is not 84×84", rows)
        return
    if pa.types.is_list(values.type):
        width = len(ranges.low) if name == "continuous_actions" else ranges.width
        widths = _lengths(values)
        wrong = list(_where(widths != width, f"'{name}' is not {width} wide", rows))
        yield from wrong
        if wrong:
            return
        numbers = values.flatten().to_numpy().reshape(-1, width)
        yield from _where(~np.isfinite(numbers).all(axis=1), f"'{name}' is not finite", rows)
        if name == "continuous_actions":
            inside = (ranges.low <= numbers) & (numbers <= ranges.high)
            yield from _where(~inside.all(axis=1), f"'{name}' leaves the action box", rows)
    elif name == "rewards":
        yield from _where(~np.isfinite(values.to_numpy()), "'rewards' is not finite", rows)
    elif name == "discrete_actions":
        actions = values.to_numpy()
        outside = (actions < 0) | (actions >= ranges.actions)
        yield from _where(outside, f"'{name}' is outside [0, {ranges.actions})", rows)


def leak_problems(
    table: pa.Table, modality: Modality, split: str, seen: dict[splits.Digest, str]
) -> Iterator[Finding]:
    """Rows whose content is in another split, too."""
    for row, digest in enumerate(splits.digests(table, modality)):
        other = seen.setdefault(digest, split)
        if other != split:
            yield row, f"its content is in the {other} split as well"
            return


def _lengths(array: pa.Array) -> np.ndarray:
    """How long each list or each ``bytes`` is."""
    name = "binary_length" if pa.types.is_binary(array.type) else "list_value_length"
    return pc.call_function(name, [array]).to_numpy()


def _owners(array: pa.ListArray) -> np.ndarray:
    """The row of each value of a list column."""
    return np.repeat(np.arange(len(array)), _lengths(array))


def _where(wrong: np.ndarray, what: str, rows: np.ndarray | None = None) -> Iterator[Finding]:
    """The first row that is wrong, if any."""
    if wrong.any():
        at = int(np.argmax(wrong))
        yield int(at if rows is None else rows[at]), what


def alike(left: Any, right: Any) -> bool:
    """Whether two JSON values are equal, numbers up to rounding."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(alike(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(alike, left, right))
    if isinstance(left, float) and isinstance(right, float | int):
        return math.isclose(left, right, rel_tol=1e-6, abs_tol=1e-9)
    return left == right


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("folder", nargs="?", default="artifacts/dataset", help="the dataset")
    parser.add_argument(
        "--params", default="params.yaml", help="what brings the tasks that are not JAT's, if any"
    )
    parser.add_argument("--replay", type=int, default=2, help="episodes a task to play again")
    parser.add_argument("--workers", type=int, default=1, help="CPU cores to use")
    arguments = parser.parse_args()

    def run() -> None:
        if Path(arguments.params).exists():
            load_params(arguments.params)
        check_or_stop(arguments.folder, arguments.replay, arguments.workers)
        print(f"{arguments.folder}: no problems")

    exit_with_one_line(run)


if __name__ == "__main__":
    main()
