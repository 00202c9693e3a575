"""Whether the engine in use plays the published task: writes one row of checks a task.

    python -m benchmarks.parity                     every task; rows already there are kept
    python -m benchmarks.parity --task metaworld-shelf-place --out /tmp/parity.jsonl
    python -m benchmarks.parity --quick             a few tasks, seconds each
    python -m benchmarks.parity --engine some.module:make_engine

    python -m benchmarks.parity --ship              … and puts the rows into the shipped table

Rows are appended to ``--out`` as tasks end, so that an interrupted run goes on where it was;
the table beside it (``.csv``) is written anew each time. ``--ship`` replaces the same tasks' rows
of ``pipeline/data/parity.csv``, which cards and reports show.
"""

import argparse
import csv
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.parity.record import QUICK_TASKS
from benchmarks.parity.row import measure
from pipeline import parity
from pipeline.domains import PUBLISHED_DOMAINS
from pipeline.errors import UserError
from pipeline.stage import exit_with_one_line
from pipeline.tasks import get_task, tasks_of

TABLE = ("task", "engine", "simulator", "reference", "verdict", "differs_in")
"""Columns before those of the checks."""
ENGINE = "benchmarks.parity.engines:make_engine"
REFERENCE = "benchmarks.parity.engines:make_reference"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of an earlier run, less those that failed and one that was cut off."""
    rows = []
    for line in path.read_text("utf8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return [row for row in rows if row["verdict"] != "failed"]


def measured(tasks: list[str], options: tuple[Any, ...], workers: int) -> Iterator[dict]:
    """Rows as they end."""
    if workers == 1:
        yield from (measure(task, *options) for task in tasks)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), max_tasks_per_child=8) as pool:
        for done in as_completed([pool.submit(measure, task, *options) for task in tasks]):
            yield done.result()


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """The rows without their numbers, sorted by task."""
    names = list(TABLE)
    checks = list(next((row["checks"] for row in rows if "checks" in row), {}))
    with path.open("w", newline="", encoding="utf8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names + checks)
        for row in sorted(rows, key=lambda row: row["task"]):
            cells = [row.get(name, "") for name in names]
            writer.writerow(cells + [row.get("checks", {}).get(name, "") for name in checks])


def ship(rows: list[dict[str, Any]]) -> None:
    """Put rows into the table that is part of the package, in the place of the same tasks'."""
    if quick := [row["task"] for row in rows if row["quick"] or row["verdict"] == "failed"]:
        raise UserError(f"--ship: '{quick[0]}' was not measured in full: run it without --quick")
    path = Path(str(parity.table_file()))
    kept = {}
    if path.exists():
        with path.open(newline="", encoding="utf8") as file:
            kept = {row["task"]: row for row in csv.DictReader(file)}
    kept |= {row["task"]: {**row, **row["checks"]} for row in rows}
    names = [*TABLE, *(name for name in rows[0]["checks"])]
    with path.open("w", newline="", encoding="utf8") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept[task] for task in sorted(kept))


def chosen_tasks(options: argparse.Namespace) -> list[str]:
    """Ids of the tasks asked for."""
    if options.task:
        return [get_task(name).id for name in options.task]
    if options.domain:
        return [task.id for task in tasks_of(options.domain)]
    if options.quick:
        return list(QUICK_TASKS)
    return [task.id for domain in PUBLISHED_DOMAINS for task in tasks_of(domain)]


def main() -> None:
    """Measure, append, and print one line a task."""
    parser = argparse.ArgumentParser(prog="benchmarks.parity", description=__doc__)
    parser.add_argument("--task", action="append", help="a task's id; may be repeated")
    parser.add_argument("--domain", choices=PUBLISHED_DOMAINS)
    parser.add_argument("--quick", action="store_true", help="small budgets and few tasks")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("parity.jsonl"))
    parser.add_argument("--again", action="store_true", help="measure tasks that have a row, too")
    parser.add_argument("--ship", action="store_true", help="update the shipped table")
    parser.add_argument("--engine", default=ENGINE, help="module:function, (task, seeds) -> envs")
    parser.add_argument("--reference", default=REFERENCE, help="the same for the other side")
    options = parser.parse_args()
    tasks = chosen_tasks(options)
    rows = [row for row in read_rows(options.out) if not (options.again and row["task"] in tasks)]
    have = {row["task"] for row in rows if row["quick"] == options.quick}
    todo = [task for task in tasks if task not in have]
    rows = [row for row in rows if row["task"] not in todo]
    options.out.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf8")
    settings = options.quick, options.engine, options.reference, options.seed
    for row in measured(todo, settings, options.workers):
        rows.append(row)
        with options.out.open("a", encoding="utf8") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{row['task']:40} {row['verdict']:8} {row.get('seconds', 0):7} s  "
              f"{row['differs_in']}", flush=True)  # fmt: skip
        write_table(options.out.with_suffix(".csv"), rows)
    differing = [row["task"] for row in rows if row["task"] in tasks and row["verdict"] != "equal"]
    if options.ship:
        ship([row for row in rows if row["task"] in tasks])
    print(f"{len(tasks)} tasks, {len(differing)} differ: {', '.join(sorted(differing)) or 'none'}")


if __name__ == "__main__":
    exit_with_one_line(main)
