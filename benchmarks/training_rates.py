"""How many agent steps one core trains a domain's experts with.

A short run of the domain's own recipe, in serial mode on one core. With ``--write`` the row goes to
``pipeline/data/measurements.json``.

    python -m benchmarks.training_rates --domain metaworld --steps 60000 --write
"""

import argparse
import platform
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.rates import record, write_measurements
from experts.appo.checkpoints import checkpoints_of, steps_of
from experts.appo.recipe import Training
from experts.appo.sample_factory import train
from pipeline.domains import get_domain
from pipeline.stage import exit_with_one_line
from pipeline.tasks import get_task

TASKS = {"mujoco": "mujoco-halfcheetah", "metaworld": "metaworld-reach", "atari": "atari-pong"}


def measure(task: str, steps: int, envs: int, folder: Path) -> float:
    """Agent steps a second of process time."""
    domain = get_domain(task.partition("-")[0])
    assert domain.recipe is not None
    start = time.process_time()
    train(Training(task, steps, envs, domain.recipe(get_task(task)), {}, 1, folder))
    return steps_of(checkpoints_of(folder)[-1]) / (time.process_time() - start)


def main() -> None:
    """Measure one domain."""
    parser = argparse.ArgumentParser(description="Measure how fast experts are trained.")
    parser.add_argument("--domain", required=True, choices=list(TASKS))
    parser.add_argument("--steps", type=int, default=60_000, help="agent steps of the run")
    parser.add_argument("--envs", type=int, default=64)
    parser.add_argument("--write", action="store_true", help="into measurements.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task = TASKS[arguments.domain]
    with tempfile.TemporaryDirectory() as name:
        # The first run pays for imports and is not counted.
        measure(task, arguments.steps // 10, arguments.envs, Path(name) / "warm")
        rate = measure(task, arguments.steps, arguments.envs, Path(name) / "run")
    command = (
        f"python -m benchmarks.training_rates --domain {arguments.domain} "
        f"--steps {arguments.steps} --envs {arguments.envs}"
    )
    machine = f"1 core, {platform.machine()}"
    row = record(f"{arguments.domain}.train", rate, "steps/core-s", machine, command)
    print(row)
    if arguments.write:
        write_measurements([row])


if __name__ == "__main__":
    exit_with_one_line(main)
