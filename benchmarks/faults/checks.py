"""The faults, and what must come of each: lists of what is wrong, empty where all is well."""

import os
import signal
from pathlib import Path

from benchmarks.faults.project import Chain, Run, Stage, leftovers, wait_for_end

PAGE = 4096
"""What a file takes is a multiple of this."""
SHARED_MEMORY = "heap.py"
"""Part of multiprocessing's error for memory that it could not get: a file without a name."""
TEMPORARY = (".tmp", ".part", ".old")


def killed(chain: Chain, stage: Stage, number: int, after: bool) -> list[str]:
    """A stage killed right before, or after, its ``number``-th rename, and run again.

    From the end where ``number`` is negative. Nothing may be different from an uninterrupted run.
    """
    count = chain.renames[stage.name]
    moment = number if number > 0 else count + 1 + number
    chain.before(stage)
    run = chain.runner.run(stage, die=[moment, after])
    problems = [] if run.code == -signal.SIGKILL else [f"not killed: {_end(run)}"]
    problems += [f"process {pid} is left" for pid in wait_for_end(chain.runner.work)]
    return problems + _again(chain, stage)


def full(chain: Chain, stage: Stage, share: float) -> list[str]:
    """A stage with space left for a ``share`` of what it writes, and run again with room.

    The project must lie on a file system of its own.
    """
    chain.before(stage)
    work = chain.runner.work
    free = round(share * sum(-(-size // PAGE) * PAGE for size in chain.written(stage)))
    ballast = work.parent / "ballast"
    room = os.statvfs(work).f_bavail * os.statvfs(work).f_frsize
    with ballast.open("wb") as file:
        file.write(bytes(max(0, room - free)))
    run = chain.runner.run(stage)
    problems = _refused(run, work)
    ballast.unlink()
    return problems + _again(chain, stage)


def limited(chain: Chain, stage: Stage, share: float) -> list[str]:
    """A stage none of whose files may exceed a ``share`` of the largest; and run again without."""
    chain.before(stage)
    run = chain.runner.run(stage, limit=round(share * max(chain.written(stage))))
    return _refused(run, chain.runner.work) + _again(chain, stage)


def twice(chain: Chain, stage: Stage) -> list[str]:
    """A stage started twice at once: both end well, and it is as if one had run."""
    chain.before(stage)
    both = [chain.runner.start(stage) for _ in range(2)]
    runs = [chain.runner.wait(*started) for started in both]
    problems = [f"exit code {run.code}: {_end(run)}" for run in runs if run.code]
    return problems + chain.differences(stage)


def _refused(run: Run, work: Path) -> list[str]:
    """What is wrong with how a stage ended that could not write: one line, exit code 2."""
    problems = []
    if run.code != 2 or len(run.errors) != 1 or "Traceback" in run.log:
        problems.append(f"exit code {run.code}: {_end(run)}")
    elif "'" not in run.errors[0] and SHARED_MEMORY not in run.errors[0]:
        problems.append(f"names no file: {run.errors[0]}")
    half = [name for name in leftovers(work) if Path(name).suffix in TEMPORARY]
    return problems + [f"{name}: left by the refused run" for name in half]


def _again(chain: Chain, stage: Stage) -> list[str]:
    run = chain.runner.run(stage)
    problems = [f"run again, exit code {run.code}: {_end(run)}"] if run.code else []
    return problems + chain.differences(stage)


def _end(run: Run) -> str:
    return " | ".join(run.log.strip().splitlines()[-3:])[-600:]
