"""Play stored episodes again and compare them with what is stored, bit by bit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import engines, schema
from pipeline.seeds import sequence
from pipeline.shards import open_shard, read_group, read_tables, to_numpy
from pipeline.tasks import get_task
from pipeline.types import Observations, Step, Task, VectorEnv

Key = tuple[int, int]
Row = dict[str, Any]


def find_problems(folder: Path, content: dict[str, Any], count: int) -> list[str]:
    """One line for each of ``count`` sampled episodes that does not come out as stored."""
    places = index(folder, content)
    task = get_task(content["task"])
    options = engines.stored_options(task, content["provenance"]["decides"]["env"])
    alone = engines.independent(task, options)
    candidates = [key for key in sorted(places) if _predecessors(key, alone, places)]
    rng = np.random.default_rng(sequence(0, content["task"], "replay"))
    chosen = rng.permutation(len(candidates))[:count]
    problems = []
    for key in [candidates[k] for k in chosen]:
        before = _predecessors(key, alone, places) or []
        rows = [read_row(*places[k]) for k in before]
        difference = replay(task, options, rows)
        if difference:
            path, row = places[key]
            problems.append(f"{path}: row {row}: replayed, {difference}")
    return problems


def index(folder: Path, content: dict[str, Any]) -> dict[Key, tuple[Path, int]]:
    """(seed, reset_index) -> file and row, for the episodes that are stored once."""
    places: dict[Key, list[tuple[Path, int]]] = {}
    for entry in content["files"]:
        path = folder / entry["file"]
        rows = (row for table in read_tables(path, ["seed", "reset_index"]) for row in keys(table))
        for row, key in enumerate(rows):
            places.setdefault(key, []).append((path, row))
    return {key: found[0] for key, found in places.items() if len(found) == 1}


def keys(table: pa.Table) -> Iterator[Key]:
    """(seed, reset_index) of each row."""
    return zip(table["seed"].to_pylist(), table["reset_index"].to_pylist(), strict=True)


def _predecessors(key: Key, alone: bool, places: dict[Key, Any]) -> list[Key] | None:
    """The episodes to play, ``key`` last; ``None`` if one of them is not stored.

    An episode starts from the state that its slot's earlier ones left the generator in, unless it
    is ``alone``.
    """
    seed, position = key
    keys = [key] if alone else [(seed, k) for k in range(position + 1)]
    return keys if all(k in places for k in keys) else None


def read_row(path: Path, row: int) -> Row:
    """One row of a Parquet file, lists as arrays."""
    file = open_shard(path)
    for group in range(file.num_row_groups):
        size = file.metadata.row_group(group).num_rows
        if row < size:
            table = read_group(file, path, group)
            return {name: to_numpy(name, table.column(name)[row]) for name in table.column_names}
        row -= size
    raise IndexError(f"{path} has no such row")


def replay(task: Task, options: dict[str, Any], rows: list[Row]) -> str:
    """Play a slot's episodes and compare the last one; what differs first, or ``""``."""
    last = rows[-1]
    envs: Any = engines.make_envs(task, [last["seed"]], **options)
    try:
        alone = engines.independent(task, options)
        observations = envs.reset(episode=last["reset_index"]) if alone else envs.reset()
        for row in rows[:-1]:
            step = _play_through(envs, _actions(row))
            if step is None:
                return "an earlier episode of its slot does not end where it ended"
            observations = step.observations
        return _compare(envs, observations, last)
    finally:
        envs.close()


def _actions(row: Row) -> np.ndarray:
    return row["discrete_actions"] if "discrete_actions" in row else row["continuous_actions"]


def _play_through(envs: VectorEnv, actions: np.ndarray) -> Step | None:
    """The last step of an episode, ``None`` if it does not end with the last action."""
    step = None
    for t in range(len(actions)):
        step = envs.step(actions[t : t + 1])
        if step.ended[0] != (t == len(actions) - 1):
            return None
    return step


def _compare(envs: VectorEnv, observations: Observations, row: Row) -> str:
    """What differs first when the running episode is played with a row's actions, or ``""``."""
    actions = _actions(row)
    step = None
    for t in range(len(actions)):
        for name, seen in schema.keep_observations(observations).items():
            if not np.array_equal(seen[0], row[name][t]):
                return f"'{name}' differs at step {t}"
        step = envs.step(actions[t : t + 1])
        for name, seen in (("rewards", step.rewards), *step.info.items()):
            if seen[0] != row[name][t]:
                return f"'{name}' differs at step {t}"
        if step.ended[0] != (t == len(actions) - 1):
            return f"it does not end at step {len(actions) - 1}"
        observations = step.observations
    assert step is not None
    if (step.terminated[0], step.truncated[0]) != (row["terminated"], row["truncated"]):
        return "'terminated' or 'truncated' differs"
    final = schema.keep_observations(step.final_observations)
    (column,) = (name for name in final if name != "text_observations")
    same = np.array_equal(final[column][0], row["final_observation"])
    return "" if same else "'final_observation' differs"
