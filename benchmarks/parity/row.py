"""The row of one task; a module of its own, so that worker processes find it by name."""

import time
import traceback
from typing import Any

from benchmarks.parity import engines
from benchmarks.parity.checks import Pair, all_checks
from benchmarks.parity.record import FULL, QUICK
from pipeline.tasks import get_task
from pipeline.types import resolve


def measure(task_id: str, quick: bool, engine: str, reference: str, seed: int = 0) -> dict:
    """The row of one task; an exception becomes a row that says "failed"."""
    task, start = get_task(task_id), time.perf_counter()
    row: dict[str, Any] = {"task": task.id, "quick": quick, "seed": seed}
    make_engine, make_reference = resolve(engine), resolve(reference)
    try:
        envs = make_engine(task, [0])
        row["engine"], row["simulator"] = engines.engine_versions(task, envs)
        envs.close()
        row["reference"] = engines.reference_versions(task)
        budget = (QUICK if quick else FULL)[task.domain]
        checks = all_checks(Pair(task, make_engine, make_reference, budget), seed)
    except Exception as error:
        traceback.print_exc()
        return row | {"verdict": "failed", "differs_in": f"{type(error).__name__}: {error}"}
    faults = [f"{name}: {check.verdict.removeprefix('differs: ')}"
              for name, check in checks.items() if check.differs]  # fmt: skip
    row |= {"verdict": "differs" if faults else "equal", "differs_in": " | ".join(faults)}
    row |= {"checks": {name: check.verdict for name, check in checks.items()}}
    row |= {"numbers": {name: check.numbers for name, check in checks.items()}}
    return row | {"seconds": round(time.perf_counter() - start, 1)}
