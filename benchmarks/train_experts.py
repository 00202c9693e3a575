"""How fast experts are trained here, against Sample Factory's own sampling over Gymnasium.

Both sides train the same APPO on the same task and the same cores, in one run of this program.
Ours is ``experts.appo.sample_factory``: all environments are one EnvPool, sampling and learning
take turns in one process. Theirs is ``benchmarks.reference_training``: Gymnasium environments one
by one, in processes of their own. A rate is agent steps (on Atari four frames each) a second of
wall clock between the first and the last report of the learner, so that starting up counts for
neither side.

Beside the ratio it measures what limits it: how long the learner takes, sampling without learning,
and the rate that sampling at no cost would give.

    python -m benchmarks.train_experts --task mujoco-halfcheetah atari-pong --cores 2
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import psutil
from sample_factory.algo.learning import learner, learner_worker
from sample_factory.algo.runners import runner as runner_module
from sample_factory.algo.runners.runner import AlgoObserver, Runner
from sample_factory.algo.utils.context import reset_global_context
from sample_factory.algo.utils.misc import LEARNER_ENV_STEPS, POLICY_ID_KEY, ExperimentStatus
from sample_factory.envs.env_utils import register_env
from sample_factory.train import make_runner

from benchmarks import reference_training
from experts.appo import sample_factory
from experts.appo.recipe import Training
from pipeline.domains import get_domain
from pipeline.errors import UserError
from pipeline.stage import exit_with_one_line
from pipeline.tasks import get_task

TASKS = ("mujoco-halfcheetah", "mujoco-hopper", "atari-pong")
STEPS = {"mujoco": 60_000, "atari": 6_000}
"""Agent steps of one run: some seconds."""
ENVS = {"mujoco": 64, "atari": 8}
"""Environments of both sides, as many as Sample Factory's examples have."""
THEIRS, DEFAULT = "Sample Factory over Gymnasium", "ours, serial (the default)"
ASYNCHRONOUS = {"serial_mode": False, "async_rl": True}
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "mujoco": {DEFAULT: {}, "ours, asynchronous": ASYNCHRONOUS},
    "atari": {
        DEFAULT: {},
        "ours, serial, bfloat16": {"encoder_precision": "bfloat16"},
        "ours, asynchronous": ASYNCHRONOUS,
    },
}
"""Domain -> ways in which this project can train."""


@dataclass
class Clock(AlgoObserver):
    """Notes when a run learns, and how long its learner was at it."""

    start: float = 0.0
    end: float = 0.0
    first: int = 0
    last: int = 0
    spent: float = 0.0
    """Core-seconds of all processes of the run."""

    def on_init(self, runner: Runner) -> None:
        """The run begins."""
        self.runner = runner

    def on_training_step(self, runner: Runner, training_iteration_since_resume: int) -> None:
        """One more batch was learnt; the runner knows only the steps of those before it."""
        self.end, self.last = time.monotonic(), runner.env_steps.get(0, 0)
        if training_iteration_since_resume == 1:
            self.start, self.first, self._before = self.end, self.last, core_seconds()
        self.spent = core_seconds() - self._before

    @property
    def rate(self) -> float:
        """Agent steps a second."""
        return (self.last - self.first) / (self.end - self.start)

    @property
    def core_rate(self) -> float:
        """Agent steps a core-second, which other work on the machine hardly changes."""
        return (self.last - self.first) / self.spent

    @property
    def learner_seconds(self) -> float:
        """Seconds of ``Learner.train`` an agent step, as Sample Factory's own timing has them."""
        profiles = dict(self.runner.component_profiles)
        (timing,) = (profile for name, profile in profiles.items() if "Learner" in name)
        return (timing["prepare_batch"] + timing["train"]) / self.runner.env_steps[0]


def core_seconds() -> float:
    """Processor time of this process and of those that it has started."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return sum(t.user + t.system for t in times)


class Pass(sample_factory.ResumingLearner):
    """A learner that learns nothing, so that what is measured is sampling."""

    def train(self, batch: Any) -> dict[str, Any]:
        """Count the batch and give it back."""
        self.env_steps += batch["actions"].shape[0] * batch["actions"].shape[1]
        return {LEARNER_ENV_STEPS: self.env_steps, POLICY_ID_KEY: self.policy_id}


@dataclass(frozen=True)
class Bench:
    """One task, trained by both sides."""

    task: str
    steps: int
    threads: int
    """Threads of ours; theirs has as many processes as its examples set."""
    folder: Path

    @property
    def domain(self) -> str:
        """The task's domain."""
        return get_task(self.task).domain

    def ours(self, settings: dict[str, Any], folder: Path, learn: bool = True) -> Clock:
        """Train as the stage ``experts.train`` does."""
        recipe = get_domain(self.domain).recipe
        assert recipe is not None
        clock = Clock()
        training = Training(
            self.task, self.steps, ENVS[self.domain], {**recipe(get_task(self.task)), **settings},
            {}, 1, folder, self.threads,
        )  # fmt: skip
        kind = sample_factory.ResumingLearner if learn else Pass
        with quiet(), mock.patch.object(sample_factory, "ResumingLearner", kind):
            sample_factory.train(training, clock)
        return clock

    def theirs(self, folder: Path, learn: bool = True) -> Clock:
        """Train as Sample Factory's examples do."""
        reset_global_context()
        register_env(self.task, reference_training.make_env)
        cfg = reference_training.make_config(get_task(self.task), self.steps, 1, folder)
        clock = Clock()
        log = sample_factory.own_log(folder / "log.txt")
        with quiet(), their_learner(learn), log as last_error:
            _, runner = make_runner(cfg)
            runner.register_observer(clock)
            status = runner.init()
            if status == ExperimentStatus.SUCCESS:
                status = runner.run()
        if status != ExperimentStatus.SUCCESS:
            raise UserError(f"Sample Factory failed on {self.task}: {last_error.error}")
        return clock

    def run(self, repeats: int) -> dict[str, Any]:
        """All measurements of the task; runs of the sides alternate, and medians are taken."""
        folders = (self.folder / f"{self.task}-{number}" for number in count())
        clocks: dict[str, list[Clock]] = {}
        for _ in range(repeats):
            clocks.setdefault(THEIRS, []).append(self.theirs(next(folders)))
            for name, settings in SETTINGS[self.domain].items():
                clocks.setdefault(name, []).append(self.ours(settings, next(folders)))
        sides = {name: summary(runs) for name, runs in clocks.items()}
        theirs, ours = sides[THEIRS], sides[DEFAULT]
        sampling = {
            "theirs": self.theirs(next(folders), learn=False).rate,
            "ours": self.ours(SETTINGS[self.domain][DEFAULT], next(folders), learn=False).rate,
        }
        return {
            "task": self.task,
            "sides": sides,
            "ratio": ours["rate"] / theirs["rate"],
            "core_ratio": ours["core_rate"] / theirs["core_rate"],
            "sampling": sampling,
            "bound": 1 / ours["learner_seconds"],
        }


def summary(runs: Sequence[Clock]) -> dict[str, float]:
    """Medians over the runs of one side."""
    names = ("rate", "core_rate", "learner_seconds")
    return {name: median(getattr(run, name) for run in runs) for name in names}


@contextmanager
def quiet() -> Iterator[None]:
    """Sample Factory's processes log to the console: away with it, from whichever process."""
    console = [os.dup(1), os.dup(2)]
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        for number, kept in enumerate(console, start=1):
            os.dup2(kept, number)
            os.close(kept)


@contextmanager
def their_learner(learn: bool) -> Iterator[None]:
    """Sample Factory's own learner again, or one that learns nothing."""
    kind: Any = learner.Learner if learn else Pass
    info = sample_factory.env_info_in_this_process
    with (
        mock.patch.object(learner_worker, "Learner", kind),
        mock.patch.object(runner_module, "obtain_env_info_in_a_separate_process", info),
    ):
        yield


def show(result: dict[str, Any]) -> None:
    """Print the measurements of one task."""
    sides = result["sides"]
    theirs, sampling = sides[THEIRS], result["sampling"]
    print(f"{result['task']}: agent steps a second, and a core-second")
    for name, side in sides.items():
        print(
            f"  {name:40} {side['rate']:8.0f} {side['core_rate']:8.0f}   ratios "
            f"{side['rate'] / theirs['rate']:.2f} {side['core_rate'] / theirs['core_rate']:.2f}"
            f"   learner {side['learner_seconds'] * side['rate']:.0%} of the time"
        )
    print(
        f"  sampling without learning: {sampling['ours']:.0f} against {sampling['theirs']:.0f}, "
        f"ratio {sampling['ours'] / sampling['theirs']:.2f}; with sampling at no cost ours would "
        f"train at {result['bound']:.0f}, ratio {result['bound'] / theirs['rate']:.2f}",
        flush=True,
    )


def main() -> None:
    """Measure and print every task."""
    parser = argparse.ArgumentParser(
        description="Training experts: ours against Sample Factory's own sampling over Gymnasium."
    )
    parser.add_argument("--task", nargs="+", default=list(TASKS), help="MuJoCo and Atari tasks")
    parser.add_argument("--steps", type=int, help="agent steps of a run")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side")
    parser.add_argument("--cores", type=int, help="CPU cores of both sides; all by default")
    parser.add_argument("--json", action="store_true", help="the last line is a JSON object")
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[: arguments.cores]
    os.sched_setaffinity(0, cores)
    results = []
    with tempfile.TemporaryDirectory() as name:
        for id in arguments.task:
            domain = get_task(id).domain
            if domain not in STEPS:
                raise UserError(f"--task {id}: only {' and '.join(STEPS)} are compared")
            steps = arguments.steps or STEPS[domain]
            results.append(Bench(id, steps, len(cores), Path(name)).run(arguments.repeats))
            show(results[-1])
    if arguments.json:
        print(json.dumps({"cores": len(cores), "results": results}))


if __name__ == "__main__":
    exit_with_one_line(main)
