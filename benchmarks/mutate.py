"""Break the code on purpose, one small change of meaning at a time: a test has to notice each.

    python -m benchmarks.mutate                   all mutants, two at a time
    python -m benchmarks.mutate --only bootstrap  those whose name or file has it
    python -m benchmarks.mutate --list

The mutants are kept in ``tests/mutants/*.toml``: name, file, the exact old text, which occurs
once, the new text, and the tests that must fail then. Each runs in a copy of the project; a table
tells which were killed. The exit code is 1 if one survived, 2 if the list does not fit the code.
"""

import argparse
import importlib.util
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = Path("tests/mutants")
SECONDS = 300
"""A mutant whose tests take longer hangs, which is noticed too."""
PASSED, FAILED = 0, 1
"""Exit codes of pytest; the others mean that no test was run."""
HEAVY = (
    "accelerate", "datasets", "hypothesis", "mujoco", "pyarrow.parquet", "pytest", "scipy.stats",
    "torch", "transformers.modeling_utils", "transformers.processing_utils", "transformers.trainer",
)  # fmt: skip
"""What takes seconds to import is imported once, in a process that the others are forks of."""
SERVER = multiprocessing.get_context("forkserver")


class Problem(Exception):
    """What is wrong with the list or its tests, in one line."""


@dataclass(frozen=True)
class Mutant:
    """One change of meaning."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    """Files or node ids of pytest."""

    def applied(self, root: Path) -> str:
        """The text of its file with the change; Problem if that is not to be made in one place."""
        path = root / self.file
        text = path.read_text(encoding="utf8") if path.is_file() else ""
        if (count := text.count(self.old)) != 1:
            raise Problem(
                f"mutant '{self.name}' is stale: its old text occurs {count} times in {self.file}, "
                "not once: write it anew"
            )
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Result:
    """What became of a mutant."""

    mutant: Mutant
    verdict: str
    """killed | SURVIVED | BROKEN (no test was run, or one fails without the mutant)."""
    seconds: float
    output: str


def read_mutants(root: Path) -> list[Mutant]:
    """The kept list, file by file."""
    mutants = []
    for path in sorted((root / FOLDER).glob("*.toml")):
        for entry in tomllib.loads(path.read_text(encoding="utf8"))["mutant"]:
            mutants.append(Mutant(**{**entry, "tests": tuple(entry["tests"])}))
    return mutants


def copy_project(root: Path, target: Path) -> None:
    """Copy the files that git knows."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)


def run_tests(copy: Path, tests: Iterable[str]) -> tuple[int, str]:
    """pytest's exit code and output in a copy, whose modules go before those installed."""
    output = copy / ".output"
    process = SERVER.Process(target=_run_there, args=(copy, list(tests), output))
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
        return FAILED, f"no end after {SECONDS} s"
    return process.exitcode or 0, output.read_text(encoding="utf8", errors="replace")


def _run_there(copy: Path, tests: list[str], output: Path) -> None:
    """Run pytest in this process, which is a fork of one that has imported nothing of ours."""
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)
    sys.path[:] = [str(copy), *(path for path in sys.path if path not in ("", str(ROOT)))]
    import pytest

    quick = ["-x", "-q", "--disable-warnings", "-p", "no:cacheprovider", "-p", "no:xdist"]
    sys.exit(pytest.main([*quick, *tests]))


def try_mutant(copy: Path, mutant: Mutant) -> Result:
    """Apply a mutant to a copy, run its tests, and undo it."""
    path, start = copy / mutant.file, time.monotonic()
    whole = path.read_text(encoding="utf8")
    cached = Path(importlib.util.cache_from_source(str(path)))
    try:
        path.write_text(mutant.applied(copy), encoding="utf8")
        cached.unlink(missing_ok=True)
        code, output = run_tests(copy, mutant.tests)
    finally:
        path.write_text(whole, encoding="utf8")
        cached.unlink(missing_ok=True)
    verdict = {PASSED: "SURVIVED", FAILED: "killed"}.get(code, "BROKEN")
    return Result(mutant, verdict, time.monotonic() - start, output)


def run_all(mutants: Sequence[Mutant], root: Path, workers: int) -> Iterator[Result]:
    """Every mutant's result, in the order of the list."""
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(workers):
            copy = Path(folder) / str(number)
            copy_project(root, copy)
            copies.put(copy)

        def with_copy(work: Callable[[Path, Any], Any], item: Any) -> Any:
            copy = copies.get()
            try:
                return work(copy, item)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(workers) as pool:
            files = group_by_file(test for mutant in mutants for test in mutant.tests)
            runs = pool.map(partial(with_copy, run_tests), files.values())
            sick = {
                file: f"{output}\n{file} fails without a mutant"
                for file, (code, output) in zip(files, runs, strict=True)
                if code != PASSED
            }

            def attempt(copy: Path, mutant: Mutant) -> Result:
                for file in map(file_of, mutant.tests):
                    if file in sick:
                        return Result(mutant, "BROKEN", 0.0, sick[file])
                return try_mutant(copy, mutant)

            yield from pool.map(partial(with_copy, attempt), mutants)


def file_of(test: str) -> str:
    """The file of a test."""
    return test.partition("::")[0]


def group_by_file(tests: Iterable[str]) -> dict[str, list[str]]:
    """File -> its tests, each once."""
    files: dict[str, set[str]] = {}
    for test in tests:
        files.setdefault(file_of(test), set()).add(test)
    return {name: [name] if name in tests else sorted(tests) for name, tests in files.items()}


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=2, help="mutants tried at a time")
    parser.add_argument("--only", nargs="+", default=[""], help="words in the name or the file")
    parser.add_argument("--list", action="store_true", help="name the mutants and try none")
    options = parser.parse_args(arguments)
    counts: dict[str, int] = dict.fromkeys(("killed", "SURVIVED", "BROKEN"), 0)
    start = time.monotonic()
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[threads] = "1"  # a fork inherits no threads, and the copies share the cores
    SERVER.set_forkserver_preload(list(HEAVY))
    try:
        mutants = [
            mutant
            for mutant in read_mutants(root)
            if any(word in f"{mutant.name} {mutant.file}" for word in options.only)
        ]
        for mutant in mutants:
            mutant.applied(root)
            if options.list:
                print(f"{mutant.file}: {mutant.name}")
        for result in run_all(mutants, root, options.workers) if not options.list else ():
            counts[result.verdict] += 1
            mutant = result.mutant
            line = f"{result.verdict:8} {result.seconds:5.1f} s  {mutant.file}: {mutant.name}"
            print(line, flush=True)
            if result.verdict != "killed":
                print("\n".join(f"    {text}" for text in result.output.splitlines()[-15:]))
    except Problem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    if not options.list:
        tally = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
        print(f"{len(mutants)} mutants: {tally or 'none'}, {time.monotonic() - start:.0f} s")
    return 1 if counts["SURVIVED"] or counts["BROKEN"] or not mutants else 0


if __name__ == "__main__":
    sys.exit(main())
