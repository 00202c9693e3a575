"""One function over many units of work with Ray: progress, retries, a summary of failures."""

import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from pipeline import domains, tasks
from pipeline.errors import UserError
from pipeline.stage import log, progress
from pipeline.types import Task

Unit = TypeVar("Unit")
Result = TypeVar("Result")

START_ATTEMPTS = 3
"""Ray waits 30 s for its own processes, which a busy machine may not meet the first time."""


def fan_out(
    function: Callable[[Unit], Result],
    units: Sequence[Unit],
    *,
    workers: int,
    desc: str,
    cpus: float = 1,
    gpus: float = 0,
    retries: int = 1,
    name: Callable[[Unit], str] = str,
) -> list[Result]:
    """Results of ``function`` over ``units``, in their order.

    One worker runs here, in this process; more run as Ray tasks, on the cluster of
    ``RAY_ADDRESS`` or on this machine, each with ``cpus`` and ``gpus`` (shares are allowed below
    1). A unit that fails is tried again (a dead worker also), the others go on, and the failures
    are summed up in one UserError at the end. Units must be idempotent: each publishes its result
    atomically and finds it done when it is run again.
    """
    outcomes = attempt_all(
        function, units, workers=workers, desc=desc, cpus=cpus, gpus=gpus, retries=retries,
        name=name,
    )  # fmt: skip
    failures = [
        f"{name(unit)} ({outcome})"
        for unit, (ok, outcome) in zip(units, outcomes, strict=True)
        if not ok
    ]
    if failures:
        shown = "; ".join(failures[:5]) + (" …" if len(failures) > 5 else "")
        raise UserError(
            f"{desc}: {len(failures)} of {len(units)} failed, the others are kept: {shown}. "
            "Run the same command again to retry them"
        )
    return [outcome for _, outcome in outcomes]


def attempt_all(
    function: Callable[[Unit], Any],
    units: Sequence[Unit],
    *,
    workers: int,
    desc: str,
    cpus: float = 1,
    gpus: float = 0,
    retries: int = 1,
    name: Callable[[Unit], str] = str,
) -> list[tuple[bool, Any]]:
    """The outcome of each unit, (True, result) or (False, reason), computed as by ``fan_out``.

    A failure is logged as soon as it is known. UserError when the cluster can never give a task
    what it asks for.
    """
    if workers == 1 or len(units) <= 1:
        attempts = ((k, _attempt(function, unit, retries)) for k, unit in enumerate(units))
    else:
        attempts = _with_ray(function, units, workers, cpus, gpus, retries)
    outcomes: list[tuple[bool, Any]] = [(False, "not run")] * len(units)
    for k, outcome in progress(attempts, desc, len(units)):
        outcomes[k] = outcome
        if not outcome[0]:
            log.error("%s: %s failed (%s)", desc, name(units[k]), outcome[1])
    return outcomes


def _attempt(function: Callable[[Any], Any], unit: Any, retries: int) -> tuple[bool, Any]:
    reason = ""
    for attempt in range(retries + 1):
        try:
            return True, function(unit)
        except UserError as error:
            return False, str(error)
        except Exception as error:  # any other fault of one unit must not stop the others
            log.exception("attempt %d of %d failed", attempt + 1, retries + 1)
            reason = _reason(error)
    return False, reason


def _attempt_there(
    function: Callable[[Any], Any],
    unit: Any,
    retries: int,
    known: tuple[dict[str, str], tuple[Task, ...]],
) -> tuple[bool, Any]:
    """``_attempt`` in another process, which then knows the tasks that this one knows."""
    domains.bring(known[0])
    tasks.bring(known[1])
    return _attempt(function, unit, retries)


def _reason(error: Exception) -> str:
    # Ray wraps what a worker raised; its own text begins with the name of the worker.
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {cause}".splitlines()[0]


def _with_ray(
    function: Callable[[Any], Any],
    units: Sequence[Any],
    workers: int,
    cpus: float,
    gpus: float,
    retries: int,
) -> Iterator[tuple[int, tuple[bool, Any]]]:
    """(number of a unit, its outcome), in the order in which they end."""
    import ray
    from ray.exceptions import RayError

    started_here = not ray.is_initialized()
    if started_here:
        start_ray(workers)
    try:
        _check_resources({"CPU": cpus, "GPU": gpus})
        remote = ray.remote(_attempt_there).options(
            num_cpus=cpus, num_gpus=gpus, max_retries=retries
        )
        code = ray.put(function)
        known = ray.put((domains.brought(), tasks.brought()))
        pending = {remote.remote(code, unit, retries, known): k for k, unit in enumerate(units)}
        while pending:
            (done,), _ = ray.wait(list(pending), num_returns=1)
            try:
                outcome = ray.get(done)
            except RayError as error:
                outcome = (False, _reason(error))
            yield pending.pop(done), outcome
    finally:
        if started_here:
            ray.shutdown()


def _check_resources(needed: dict[str, float]) -> None:
    # Ray would wait for ever for a machine that can run the task.
    import ray

    for kind, amount in needed.items():
        largest = max(node["Resources"].get(kind, 0) for node in ray.nodes() if node["Alive"])
        if amount > largest:
            raise UserError(
                f"a task asks for {amount:g} {kind}, but no machine of the Ray cluster has more "
                f"than {largest:g}: lower '{kind.lower()}s' (or raise 'workers', the CPUs of a "
                "Ray that is started here)"
            )


def start_ray(workers: int) -> None:
    """Join the cluster of ``RAY_ADDRESS``, or start Ray on this machine with ``workers`` CPUs."""
    import ray

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = os.environ.get("RAY_ADDRESS")
    settings: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}},
    }
    if not address:
        # "local": without it Ray joins whichever cluster was started on this machine before.
        settings |= {"address": "local", "num_cpus": workers, "include_dashboard": False}
        if " " in sys.executable:  # Ray starts workers by a shell, and quotes all but their Python
            settings["runtime_env"]["py_executable"] = shlex.quote(sys.executable)
    for attempt in range(START_ATTEMPTS):
        try:
            ray.init(**settings)
            return
        except ConnectionError as error:
            raise UserError(
                f"no Ray cluster at RAY_ADDRESS={address} ({_reason(error)}): "
                "start one, or unset RAY_ADDRESS"
            ) from None
        except Exception as error:  # Ray has no class of its own for a start that took too long
            ray.shutdown()
            if "timed out during startup" not in str(error) or attempt + 1 == START_ATTEMPTS:
                raise UserError(
                    f"Ray does not start here ({_reason(error)}): "
                    "free the machine, or set 'workers: 1' to do without it"
                ) from None
            log.info("Ray took too long to start on this busy machine: once more")
