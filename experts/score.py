"""Score one expert on seeds of your own: ``python -m experts.score --task mujoco-hopper``."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from experts.gate import Score, judge, play
from experts.load import load_policy
from experts.random_scores import baseline, noop_play, random_play
from pipeline.engines import decided_options
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.paths import expert_folder
from pipeline.seeds import sequence
from pipeline.stage import run_stage
from pipeline.tasks import get_task


def score(params: Params, task_id: str, folder: Path | None, episodes: int, seed: int) -> Score:
    """The score of the expert in ``folder`` (by default the one that the stage made)."""
    if episodes < 1:
        raise UserError(f"--episodes is {episodes}: at least 1")
    if seed < 0:
        raise UserError(f"--seed is {seed}: at least 0")
    task = get_task(task_id)
    env = decided_options(task, params.env_of(task.id))
    (policy_seed,) = sequence(seed, "gate", task.id).generate_state(1)  # the gate's, so its score
    policy = load_policy(task, folder or expert_folder(task), int(policy_seed))
    outcomes = play(task, policy, episodes, seed, env)
    random = baseline(random_play(params, task.id))
    noop = baseline(noop_play(params, task.id))
    return judge(task, outcomes, random, noop, seed)


def main(params: Params, arguments: Namespace) -> None:
    """Print the score."""
    result = score(
        params, arguments.task, arguments.folder, arguments.episodes, arguments.seed
    ).to_dict()
    if arguments.json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key:15} {f'{value:.4g}' if isinstance(value, float) else value}")


def add_arguments(parser: ArgumentParser) -> None:
    """What to score, and for how long."""
    parser.add_argument("--task", required=True, help="a task id, such as mujoco-hopper")
    parser.add_argument("--folder", type=Path, help="an expert's folder instead of the stage's")
    parser.add_argument("--episodes", type=int, default=100, help="rounded up to equal quotas")
    parser.add_argument("--seed", type=int, default=0, help="of environments and policy")
    parser.add_argument("--json", action="store_true", help="one line of JSON")


if __name__ == "__main__":
    run_stage(main, "Score one expert.", add_arguments)
