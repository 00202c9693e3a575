"""Break off every stage wherever it can be, and compare with a run that was left alone.

    python -m benchmarks.faults                       # all faults of all stages
    python -m benchmarks.faults --stages build_text --faults kill

``kill``: SIGKILL before and after each rename. ``limit``: the largest file is cut off. ``full``: a
file system of 60 MB fills (skipped where none can be mounted). ``twice``: two runs at once.
After each the stage is run again: the bytes must be those of an uninterrupted run, with nothing
left beside them. Prints what is wrong; the exit code is 1 if anything is.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.faults import checks
from benchmarks.faults.project import STAGES, Chain, Runner, Stage, small_file_system

SHARES = (0, 0.3, 0.6, 0.9)
"""Of what a stage writes, how much there is room for."""
LIMIT = 0.7
"""Of its largest file, how much may be written."""
FAULTS = ("kill", "limit", "full", "twice")
Check = Callable[..., list[str]]


def moments(chain: Chain, stage: Stage, faults: list[str]) -> list[tuple[str, Check]]:
    """Every fault of a stage by its name, and what checks it."""
    kills = [(k, after) for k in range(1, chain.renames[stage.name] + 1) for after in (False, True)]
    found: dict[str, list[tuple[str, Check]]] = {
        "kill": [
            (
                f"killed {'after' if after else 'before'} rename {k}",
                partial(checks.killed, number=k, after=after),
            )
            for k, after in kills
        ],
        "limit": [(f"files cut off at {LIMIT:.0%}", partial(checks.limited, share=LIMIT))],
        "full": [(f"room for {s:.0%}", partial(checks.full, share=s)) for s in SHARES],
        "twice": [("twice at once", checks.twice)],
    }
    return [moment for fault in faults for moment in found[fault]]


def main() -> int:
    """Run the checks; how many went wrong."""
    names = [stage.name for stage in STAGES]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stages", nargs="+", choices=names, default=names)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    options = parser.parse_args()
    wrong = total = 0
    start = time.monotonic()
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place = base / "small"
        try:
            stack.enter_context(small_file_system(place))
        except PermissionError as error:
            print(f"'full' is left out: {error}")
            options.faults = [name for name in options.faults if name != "full"]
        (place / "work").mkdir(parents=True)
        runner = stack.enter_context(Runner(place / "work", base / "logs"))
        chain = Chain(runner, base / "snapshots", small="full" in options.faults)
        chain.make()
        for stage in STAGES:
            if stage.name not in options.stages:
                continue
            for name, check in moments(chain, stage, options.faults):
                problems = check(chain, stage)
                total += 1
                wrong += bool(problems)
                print(f"{stage.name}: {name}: {'; '.join(problems) or 'well'}", flush=True)
    print(f"{total - wrong} of {total} are well ({time.monotonic() - start:.0f} s)")
    return wrong


if __name__ == "__main__":
    sys.exit(bool(main()))
