"""Runs stages in forks of one warm process, so that a run costs what it does and no imports.

Reads jobs from standard input, a JSON object a line, and answers each with a line:

    {"start": {"module": …, "arguments": […], "cwd": …, "log": …, "die": [k, after], "limit": n}}
    {"wait": <process>}

``die`` kills the run with SIGKILL right before, or after, the k-th time a file or a folder below
``cwd`` gets its name (from 1). ``limit`` is the size in bytes beyond which no file can be written.
"""

import contextlib
import fcntl
import importlib
import json
import os
import resource
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WARM = (
    "datasets", "envpool", "minigrid", "metaworld", "pyarrow.parquet", "torch", "transformers",
    "accelerate", "safetensors.torch", "rich.table", "jinja2", "PIL.Image",
    "dataset_builder.text.build", "dataset_builder.vision.build", "dataset_builder.build",
    "experts.train", "experts.appo.sample_factory", "experts.appo.selection", "trainer.run",
    "trainer.report",
)  # fmt: skip


class Renames:
    """Counts what gets its name below a folder, and dies at one of these moments if told to."""

    def __init__(self, folder: Path, die: tuple[int, bool] | None) -> None:
        self.folder, self.die, self.count = folder, die, 0

    def watch(self) -> None:
        """Put this in the place of what renames."""
        from pipeline import outputs

        for module, name in ((os, "rename"), (os, "replace"), (outputs, "exchange")):
            setattr(module, name, self._counted(getattr(module, name)))

    def _counted(self, rename: Callable[..., None]) -> Callable[..., None]:
        def counted(source: Any, target: Any, **more: Any) -> None:
            if self.folder not in Path(os.path.realpath(target)).parents:
                rename(source, target, **more)
                return
            self.count += 1
            if self.die == (self.count, False):
                os.kill(os.getpid(), signal.SIGKILL)
            rename(source, target, **more)
            if self.die == (self.count, True):
                os.kill(os.getpid(), signal.SIGKILL)

        return counted


def start(job: dict[str, Any], logs: dict[int, tuple[int, str]]) -> int:
    """Fork the run that a job describes; its process, whose log ``finish`` writes.

    The log is a pipe meanwhile, which takes a megabyte, whatever the limit of files is.
    """
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 2**20)
    process = os.fork()
    if not process:
        run(job, writing)
    os.close(writing)
    logs[process] = reading, job["log"]
    return process


def finish(process: int, logs: dict[int, tuple[int, str]]) -> int:
    """Wait for the end of a run and write its log; its exit code."""
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    reading, path = logs.pop(process)
    os.set_blocking(reading, False)  # those who outlive the run may hold the other end
    with open(path, "wb") as file, contextlib.suppress(BlockingIOError):
        while data := os.read(reading, 2**16):
            file.write(data)
    os.close(reading)
    return code


def run(job: dict[str, Any], log: int) -> None:
    """Be the run that a job describes; never returns."""
    code = 1
    try:
        os.setsid()
        os.chdir(job["cwd"])
        for stream in (1, 2):
            os.dup2(log, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        renames = Renames(Path.cwd(), tuple(job["die"]) if job.get("die") else None)
        renames.watch()
        if job.get("limit") is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit"], resource.RLIM_INFINITY))
        sys.argv[1:] = job["arguments"]
        sys.modules.pop(job["module"], None)
        try:
            runpy.run_module(job["module"], run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        Path(job["log"] + ".renames").write_text(str(renames.count), encoding="utf8")
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Answer jobs until there are no more."""
    for module in WARM:
        importlib.import_module(module)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logs: dict[int, tuple[int, str]] = {}
    for line in sys.stdin:
        job = json.loads(line)
        answer = start(job["start"], logs) if "start" in job else finish(job["wait"], logs)
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    main()
