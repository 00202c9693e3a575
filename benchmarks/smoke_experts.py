"""Every trained task, from start to end: 57 Atari games, 50 Meta-World and 11 MuJoCo tasks.

Each one trains for a few thousand steps with its domain's own recipe, on the way that the stage
``experts.train`` goes, and leaves a checkpoint and an expert's folder; the folder is then loaded
as a fresh policy, which acts in fresh environments. A line for each task that fails, exit code 1.

    python -m benchmarks.smoke_experts --steps 2000 --workers 2
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.smoke import report, try_all
from experts.load import load_policy
from experts.random_scores import BaselinePlay
from experts.train import ExpertJob, make_expert
from pipeline.domains import get_domain
from pipeline.engines import make_envs
from pipeline.errors import UserError
from pipeline.seeds import env_seeds
from pipeline.stage import exit_with_one_line, read_json
from pipeline.tasks import get_task, tasks_of
from pipeline.types import Task

DOMAINS = ("atari", "metaworld", "mujoco")
ENVS = {"atari": 8, "metaworld": 64, "mujoco": 64}
"""So many that one rollout of all of them is one batch of the recipe, which keeps a run short."""
ACTING_ENVS, ACTING_STEPS = 4, 50
SEED = 1


def make_job(task: Task, steps: int, folder: Path) -> ExpertJob:
    """The expert of one task, with budgets of seconds."""
    domain = get_domain(task.domain)
    assert domain.recipe is not None
    random, noop = (
        BaselinePlay(task.id, policy, 1, SEED, {}, folder / policy / f"{task.id}.json")
        for policy in ("random", "noop")
    )
    return ExpertJob(
        task=task.id,
        source="train",
        steps=steps,
        envs=ENVS[task.domain],
        recipe=domain.recipe(task),
        options={},
        seed=SEED,
        mode=domain.expert_mode,
        episodes=1,
        random=random,
        noop=noop,
        folder=folder / "experts" / task.id,
        training=folder / "training" / task.id,
    )


def check(job: ExpertJob) -> float:
    """Make one expert and act with what it left; seconds. RuntimeError says what is wrong."""
    start = time.monotonic()
    make_expert(job)
    trained = read_json(job.folder / "config.json")["steps"]
    if trained < job.steps:
        raise RuntimeError(f"the last checkpoint has {trained} of {job.steps} steps")
    act(get_task(job.task), job.folder)
    return time.monotonic() - start


def act(task: Task, folder: Path) -> None:
    """Play with the policy of an expert's folder; RuntimeError for actions that cannot be taken."""
    policy = load_policy(task, folder, SEED)
    envs = make_envs(task, env_seeds(SEED, "smoke", task.id, count=ACTING_ENVS))
    try:
        policy.bind(envs)
        observations, ids = envs.reset(), np.arange(ACTING_ENVS)
        started, rewards = np.ones(ACTING_ENVS, bool), np.zeros(ACTING_ENVS, np.float32)
        for _ in range(ACTING_STEPS):
            actions = policy.act(observations, ids, started, rewards)
            if actions.shape != (ACTING_ENVS, *envs.action_space.shape):
                raise RuntimeError(f"actions of shape {actions.shape}")
            if not np.isfinite(actions).all():
                raise RuntimeError("actions that are not finite")
            step = envs.step(actions)
            observations, started, rewards = step.observations, step.ended, step.rewards
    finally:
        envs.close()


def run(tasks: Sequence[Task], steps: int, workers: int) -> dict[str, Any]:
    """The outcome of every task (``benchmarks.smoke.try_all``)."""
    with tempfile.TemporaryDirectory() as name:
        jobs = [make_job(task, steps, Path(name)) for task in tasks]
        return try_all(check, jobs, workers, name=lambda job: job.task)


def main() -> None:
    """Run all tasks, or those that are named."""
    parser = argparse.ArgumentParser(
        description="Start, train, save, reload and play the expert of every trained task."
    )
    parser.add_argument("--task", nargs="+", help="these tasks only")
    parser.add_argument("--steps", type=int, default=2000, help="agent steps of a training")
    parser.add_argument("--workers", type=int, default=2, help="tasks at a time")
    parser.add_argument("--json", action="store_true", help="the last line is a JSON object")
    arguments = parser.parse_args()
    tasks = [task for domain in DOMAINS for task in tasks_of(domain)]
    if arguments.task:
        tasks = [get_task(id) for id in arguments.task]
    for task in tasks:
        if task.domain not in DOMAINS:
            raise UserError(f"--task {task.id}: its expert is not trained")
    report(run(tasks, arguments.steps, arguments.workers), arguments.json)


if __name__ == "__main__":
    exit_with_one_line(main)
