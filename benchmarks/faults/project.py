"""A tiny project whose stages are run, broken off and run again; all that the checks share."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
LEFT = (".*.tmp", ".*.part", ".*.old", ".*.parts-*", "checkpoint-*")
"""Names that nothing may have when a stage has ended well."""
TEXT = "The {0} of the house number {1} was old, and so was the {2} that stood behind it. " * 6
WORDS = ("door", "garden", "wall", "window", "tree", "fence", "well", "roof", "bench", "gate")


@dataclass(frozen=True)
class Stage:
    """One stage of the tiny project."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    volatile: tuple[str, ...] = ()
    """Globs of its outputs whose bytes tell the time."""
    linked: tuple[str, ...] = ()
    """Globs of its outputs that are hard links, and so take no space."""
    kills: tuple[int, ...] = field(default=(1, -1))
    """Renames at which the fast checks kill it: the first and the last."""


STAGES = (
    Stage("random_scores", "experts.random_scores"),
    Stage("train_shipped", "experts.train", ("--domain", "mujoco")),
    Stage("train_scripted", "experts.train", ("--domain", "metaworld")),
    Stage(
        "train_appo",
        "experts.train",
        ("--domain", "environments"),
        ("**/tensorboard/*", "**/curve*.csv", "metrics/curves_*/*", "**/curves_*/*"),
        kills=(1, 2, -1),
    ),
    Stage("collect_mujoco", "dataset_builder.collect", ("--domain", "mujoco")),
    Stage("collect_babyai", "dataset_builder.collect", ("--domain", "babyai")),
    Stage("collect_metaworld", "dataset_builder.collect", ("--domain", "metaworld")),
    Stage("collect_environments", "dataset_builder.collect", ("--domain", "environments")),
    Stage("build_text", "dataset_builder.text.build"),
    Stage("build_vision", "dataset_builder.vision.build"),
    Stage("build_dataset", "dataset_builder.build"),
    Stage(
        "publish", "dataset_builder.publish", linked=("artifacts/published/dataset/*/*.parquet",)
    ),
    Stage("train_jat", "trainer.run", (), ("**/runs/**",)),
    Stage("evaluate_jat", "trainer.evaluate"),
    Stage("report", "trainer.report"),
)
"""In the order in which they need each other. The first runs of a chain make everything."""


def parameters() -> dict[str, Any]:
    """A profile with the smallest tasks and budgets; one worker, so that a run starts at once."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf8"))
    few = {"episodes": 8, "slots": 2, "episodes_per_slot": 2, "test_fraction": 0.3}
    params |= {
        "workers": 1,
        "random_episodes": 4,
        "mujoco": {
            "tasks": ["mujoco-pendulum"],
            "expert": {"source": "shipped", "gate_episodes": 4, "keep_weak": True},
            "collect": few,
        },
        "metaworld": {
            "tasks": ["metaworld-reach"],
            "expert": {"source": "scripted", "gate_episodes": 2, "keep_weak": True},
            "collect": {"episodes": 2, "slots": 1, "episodes_per_slot": 1},
        },
        "babyai": {"tasks": ["babyai-go-to-obj"], "expert": {"source": "bot"}, "collect": few},
        "atari": {"tasks": [], "collect": few},
        "environments": {"cart": {"id": "CartPole-v1", "max_episode_steps": 30}},
        "gymnasium": {
            "expert": {"steps": 300, "envs": 2, "gate_episodes": 2, "keep_weak": True},
            "collect": few,
        },
        "text": [{"name": "notes", "source": "files:notes/*.txt", "shards": 2, "filters": "none"}],
        "vision": [{"name": "grids", "source": "grids:captions", "train": 8, "test": 3}],
        "publish": {"to": "folder:artifacts/published/dataset"},
    }
    params["jat"] |= {
        "steps": 6, "batch_tokens": 256, "vocab_size": 300, "save_every": 2, "log_every": 2,
        "accumulation": 1, "domain_batch_tokens": {}, "context": {},
        "model": {
            "hidden_size": 16, "num_layers": 1, "num_heads": 2, "image_size": 32,
            "attention_types": [[["global"], 1]], "max_position_embeddings": 64,
        },
    }  # fmt: skip
    params["evaluation"] = {
        "episodes": 2, "domain_episodes": {"mujoco": 2, "babyai": 2}, "envs": 2, "bootstrap": 20,
    }  # fmt: skip
    return params


def make_project(folder: Path) -> None:
    """Lay out the tiny project: parameters and a few documents."""
    (folder / "notes").mkdir(parents=True)
    for k in range(24):
        words = [WORDS[(k + j) % 10] for j in (0, 3, 7)]
        text = TEXT.format(words[0], k, words[1]) + f" {words[2]} {k * 7919}"
        (folder / "notes" / f"{k}.txt").write_text(text, encoding="utf8")
    params = yaml.safe_dump(parameters())
    (folder / "params.yaml").write_text(params, encoding="utf8")


@dataclass(frozen=True)
class Run:
    """How a run ended."""

    code: int
    """Negative: the signal that killed it."""
    log: str
    """What it printed."""
    renames: int | None
    """How many files and folders got their names; None if it was killed."""

    @property
    def errors(self) -> list[str]:
        """The lines that begin with ``error:``."""
        return [line for line in self.log.splitlines() if line.startswith("error:")]


class Runner:
    """Runs stages in the folder ``work``, in forks of a warm process; a context manager."""

    def __init__(self, work: Path, logs: Path) -> None:
        self.work, self._logs = work, logs
        self._runs = 0

    def __enter__(self) -> "Runner":
        self._logs.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        environment |= {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
        self._driver: Any = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.faults.driver"], cwd=ROOT, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._driver.stdin.close()
        self._driver.wait()

    def run(self, stage: Stage, **fault: Any) -> Run:
        """One run of a stage, with a fault as ``driver`` describes it."""
        return self.wait(*self.start(stage, **fault))

    def start(self, stage: Stage, **fault: Any) -> tuple[int, Path]:
        """Begin a run; what ``wait`` takes."""
        self._runs += 1
        log = self._logs / f"{self._runs}-{stage.name}"
        job = {"module": stage.module, "arguments": stage.arguments, "cwd": str(self.work)}
        return self._ask({"start": {**job, "log": str(log), **fault}}), log

    def wait(self, process: int, log: Path) -> Run:
        """Wait for the end of a run."""
        code = self._ask({"wait": process})
        counted = Path(f"{log}.renames")
        renames = int(counted.read_text(encoding="utf8")) if counted.exists() else None
        return Run(code, log.read_text(encoding="utf8", errors="replace"), renames)

    def _ask(self, job: dict[str, Any]) -> int:
        print(json.dumps(job), file=self._driver.stdin, flush=True)
        return int(self._driver.stdout.readline())


@dataclass
class Chain:
    """The whole project made once, and what it was like before and after each stage."""

    runner: Runner
    snapshots: Path
    small: bool = False
    """Whether it lies on a small file system of its own."""
    renames: dict[str, int] = field(default_factory=dict)

    def make(self, stages: Sequence[Stage] = STAGES) -> None:
        """Run every stage, uninterrupted."""
        make_project(self.runner.work)
        shutil.copytree(self.runner.work, self.snapshots / "0")
        for number, stage in enumerate(stages, start=1):
            run = self.runner.run(stage)
            if run.code or run.renames is None:
                raise RuntimeError(f"{stage.name}: exit code {run.code}\n{run.log}")
            self.renames[stage.name] = run.renames
            shutil.copytree(self.runner.work, self.snapshots / str(number))

    def before(self, stage: Stage) -> None:
        """Put the project back to the moment before a stage."""
        for path in self.runner.work.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        snapshot = self.snapshots / str(STAGES.index(stage))
        shutil.copytree(snapshot, self.runner.work, dirs_exist_ok=True)

    def written(self, stage: Stage) -> list[int]:
        """The sizes of the outputs that a stage makes or changes."""
        number = STAGES.index(stage)
        before, after = (files(self.snapshots / str(k), stage.linked) for k in (number, number + 1))
        return [len(data) for name, data in after.items() if before.get(name) != data]

    def differences(self, stage: Stage) -> list[str]:
        """What is not as the uninterrupted run has left it, and what should not be there."""
        whole = files(self.snapshots / str(STAGES.index(stage) + 1), stage.volatile)
        found = files(self.runner.work, stage.volatile)
        lines = [f"{name}: other bytes" for name in whole if found.get(name, b"") != whole[name]]
        lines += [f"{name}: too much" for name in found if name not in whole]
        return lines + [f"{name}: left behind" for name in leftovers(self.runner.work)]


def files(folder: Path, volatile: Sequence[str] = ()) -> dict[str, bytes]:
    """Every output below a folder, but caches, what trains and what tells the time."""
    skipped = {path for glob in volatile for path in folder.glob(glob)}
    aside = [folder / "artifacts" / name for name in ("cache", "jat-training", "training")]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path not in skipped and not any(a in path.parents for a in aside)
    }


def leftovers(folder: Path) -> list[str]:
    """What a run should have removed, below a folder."""
    found = {str(path.relative_to(folder)) for glob in LEFT for path in folder.rglob(glob)}
    if (folder / "artifacts" / "training").is_dir():
        found |= {str(p.relative_to(folder)) for p in (folder / "artifacts/training").iterdir()}
    return sorted(found)


def processes(folder: Path) -> list[int]:
    """Processes that work in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink().is_relative_to(folder):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def wait_for_end(folder: Path, seconds: float = 10) -> list[int]:
    """The processes that still work in a folder after so long."""
    end = time.monotonic() + seconds
    while (left := processes(folder)) and time.monotonic() < end:
        time.sleep(0.05)
    return left


@contextmanager
def small_file_system(folder: Path, size: str = "60m") -> Iterator[None]:
    """A file system of its own at ``folder``; PermissionError where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        raise PermissionError("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
