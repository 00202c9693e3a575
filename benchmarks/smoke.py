"""What the smoke runs share: every task is tried, and those that fail are named."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pipeline.fanout import attempt_all

Unit = TypeVar("Unit")


def try_all(
    check: Callable[[Unit], Any], units: Sequence[Unit], workers: int, name: Callable[[Unit], str]
) -> dict[str, Any]:
    """The outcome of every unit, by its task's name.

    ``tasks``, ``passed`` (how many), ``failed`` (task -> reason), ``results`` (task -> what
    ``check`` returned) and ``seconds`` of all together.
    """
    start = time.monotonic()
    outcomes = attempt_all(check, units, workers=workers, desc="smoke", retries=0, name=name)
    named = {name(unit): outcome for unit, outcome in zip(units, outcomes, strict=True)}
    failed = {task: reason for task, (ok, reason) in named.items() if not ok}
    return {
        "tasks": len(units),
        "passed": len(units) - len(failed),
        "failed": failed,
        "results": {task: result for task, (ok, result) in named.items() if ok},
        "seconds": round(time.monotonic() - start, 1),
    }


def report(result: dict[str, Any], as_json: bool) -> None:
    """A line for each task that failed, then how many passed; exit code 1 when one failed."""
    for task, reason in result["failed"].items():
        print(f"FAILED {task}: {reason}")
    print(f"{result['passed']} of {result['tasks']} in {result['seconds']:.0f} s")
    if as_json:
        print(json.dumps(result))
    sys.exit(1 if result["failed"] else 0)
