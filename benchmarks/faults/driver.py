"""Runs stages in forks of one warm process, so that a run costs what it does and no imports.

Reads jobs from standard input, a JSON object a line, and answers each with a line:

    {"start": {"module": …, "arguments": […], "cwd": …, "log": …, "die": [k, after], "limit": n}}
    {"wait": <process>}

``die`` kills the run with SIGKILL right before, or after, the k-th time a file or a folder below
``cwd`` gets its name (from 1). ``limit`` is the size in bytes beyond which no file can be written.
"""

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


def run(job: dict[str, Any]) -> None:
    """Be the run that a job describes; never returns."""
    code = 1
    try:
        os.setsid()
        os.chdir(job["cwd"])
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
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
    for line in sys.stdin:
        job = json.loads(line)
        if "start" in job:
            answer = os.fork() or run(job["start"])
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1])
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    main()
