"""How fast this project's EnvPool sampling trains, against Sample Factory over Gymnasium.

Both sides train the same APPO on the same task, on one core, for the same number of agent steps;
what differs is the environment below Sample Factory: one batched EnvPool, or as many Gymnasium
environments stepped one by one, as its own MuJoCo example does it. Prints agent steps a second of
process time, what both earned in the end, and their ratio.

    python -m benchmarks.train_experts --task mujoco-pendulum --steps 60000
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from experts.checkpoints import checkpoints_of, steps_of
from experts.curve import read_curve
from experts.recipe import Training
from experts.sample_factory import train
from pipeline.domains import get_domain, mujoco
from pipeline.envpool_env import continuous
from pipeline.stage import exit_with_one_line
from pipeline.tasks import get_task
from pipeline.types import Domain, Observations, Step, Task


class GymnasiumEnvs:
    """Gymnasium environments stepped one by one, behind the ``VectorEnv`` contract."""

    def __init__(self, task: Task, seeds: Sequence[int], threads: int = 1) -> None:
        self.envs = [gymnasium.make(task.gymnasium_id) for _ in seeds]
        self.seeds, self.num_envs = list(seeds), len(seeds)
        self.observation_space = self.envs[0].observation_space
        self.action_space = self.envs[0].action_space

    def reset(self) -> Observations:
        """Start an episode everywhere."""
        firsts = [e.reset(seed=s)[0] for e, s in zip(self.envs, self.seeds, strict=True)]
        return continuous(np.stack(firsts))

    def step(self, actions: np.ndarray, ids: np.ndarray | None = None) -> Step:
        """Step all environments."""
        space: Any = self.action_space
        actions = np.clip(actions, space.low, space.high)
        rows, rewards, ends = [], [], []
        for env, action in zip(self.envs, actions, strict=True):
            row, reward, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                row, _ = env.reset()
            rows.append(row)
            rewards.append(reward)
            ends.append((terminated, truncated and not terminated))
        ended = np.array(ends)
        columns = continuous(np.stack(rows))
        earned = np.array(rewards, np.float32)
        return Step(columns, actions, earned, ended[:, 0], ended[:, 1], {})

    def close(self) -> None:
        """Free the environments."""
        for env in self.envs:
            env.close()


def measure(training: Training, domain: Domain) -> tuple[float, float]:
    """(agent steps a second of process time, mean return at the end or NaN)."""
    kept, mujoco.DOMAIN = mujoco.DOMAIN, domain
    start = time.process_time()
    try:
        train(training)
    finally:
        mujoco.DOMAIN = kept
    steps = steps_of(checkpoints_of(training.folder)[-1])
    rate = steps / (time.process_time() - start)
    rows = read_curve(training.folder / "curve.csv")
    return rate, rows[-1][2] if rows else float("nan")


def main() -> None:
    """Train on both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="mujoco-pendulum", help="a MuJoCo task id")
    parser.add_argument("--steps", type=int, default=60_000, help="agent steps of each side")
    parser.add_argument("--envs", type=int, default=64, help="environments of each side")
    arguments = parser.parse_args()
    task, domain = get_task(arguments.task), get_domain("mujoco")
    assert domain.recipe is not None
    with tempfile.TemporaryDirectory() as name:
        warm = Training(task.id, 5000, arguments.envs, domain.recipe(task), {}, 1, Path(name) / "w")
        measure(warm, domain)  # pays for imports and for what torch compiles
        training = Training(
            task.id, arguments.steps, arguments.envs, domain.recipe(task), {}, 1, Path(name) / "a"
        )
        ours, our_return = measure(training, domain)
        training = replace(training, folder=Path(name) / "b")
        theirs, their_return = measure(training, replace(domain, make_envs=GymnasiumEnvs))
    print(f"EnvPool    {ours:8.0f} steps/s, return {our_return:.1f}")
    print(f"Gymnasium  {theirs:8.0f} steps/s, return {their_return:.1f}")
    print(f"ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    exit_with_one_line(main)
