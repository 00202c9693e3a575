"""Publish the trained experts: ``python -m experts.publish --to hub:<owner>/<name>``.

One model repository, a folder a task, no pickle: what ``source: hub:<repo>@<revision>`` reads.
"""

import shutil
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from experts.policy import load_policy
from experts.sources import FILES
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.paths import ARTIFACTS, expert_folder
from pipeline.stage import log, read_json, replaced_folder, run_stage, write_atomic
from pipeline.tasks import get_task
from pipeline.types import Task

FOLDER = ARTIFACTS / "published_experts"
HEAD = """---
license: apache-2.0
library_name: sample-factory
tags: [reinforcement-learning, deep-reinforcement-learning]
---
# Experts of Jack of All Trades

Policies trained with APPO (Sample Factory) on EnvPool. Each folder holds `config.json` (the
network, the whole recipe, seed and package versions), `model.safetensors` (the acting half of the
network with its observation statistics), `curve.csv` (the learning curve) and `score.json`.

```python
from pathlib import Path
from experts.policy import load_policy
from pipeline.tasks import get_task

policy = load_policy(get_task("{example}"), Path("{example}"), seed=0)
```

Returns are undiscounted means with standard deviations. *Reference* is the published expert of
JAT (arXiv 2402.09844). An `expert` reaches 90 % of the reference's normalised score, or succeeds
in 90 % of its episodes; a `weak` one is better than random play with 95 % confidence.

| task | mode | steps | return | episodes | success | random | reference | verdict |
|---|---|---|---|---|---|---|---|---|
"""


def trained_experts(params: Params) -> list[Task]:
    """The profile's tasks whose experts are networks; UserError when there are none."""
    tasks = []
    for id in params.tasks:
        path = expert_folder(get_task(id)) / "config.json"
        if path.exists() and read_json(path).get("kind") == "network":
            tasks.append(get_task(id))
    if not tasks:
        raise UserError("no trained expert to publish: run `dvc repro train_mujoco` first")
    return tasks


def card(tasks: list[Task]) -> str:
    """The README.md of the repository."""
    lines = [HEAD.format(example=tasks[0].id)]
    for task in tasks:
        folder = expert_folder(task)
        config, score = read_json(folder / "config.json"), read_json(folder / "score.json")
        cells = (
            task.id,
            config["mode"],
            f"{config['steps']:,}",
            f"{score['mean']:.2f} ± {score['std']:.2f}",
            score["episodes"],
            _number(score["success"]),
            _number(score["random_mean"]),
            _number(score["reference_mean"]),
            score["verdict"],
        )
        lines.append(f"| {' | '.join(map(str, cells))} |\n")
    return "".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def assemble(tasks: list[Task], target: Path) -> None:
    """The repository as a folder; it appears at once."""
    with replaced_folder(target) as folder:
        for task in tasks:
            load_policy(task, expert_folder(task), seed=0)
            (folder / task.id).mkdir()
            for name in (*FILES, "score.json"):
                shutil.copy(expert_folder(task) / name, folder / task.id / name)
        write_atomic(folder / "README.md", card(tasks))


def to_hub(folder: Path, repository: str) -> str:
    """Upload to a model repository; the address of the commit."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, HTTPError

    api: Any = HfApi()
    try:
        api.create_repo(repository, repo_type="model", exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Publish the experts"
        )
    except (HFValidationError, HTTPError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"cannot upload to '{repository}' ({reason}): check its name, the network and "
            "`hf auth login`"
        ) from None
    return commit.commit_url


def main(params: Params, arguments: Namespace) -> None:
    """Assemble the repository, and upload it where ``--to`` says so."""
    kind, _, target = arguments.to.partition(":")
    if kind not in ("folder", "hub") or not target:
        raise UserError(f"--to '{arguments.to}' is not folder:<path> or hub:<owner>/<name>")
    folder = Path(target) if kind == "folder" else FOLDER
    if kind == "folder" and folder.exists() and not (folder / "README.md").is_file():
        raise UserError(f"--to '{arguments.to}': the folder exists and holds no published experts")
    tasks = trained_experts(params)
    assemble(tasks, folder.resolve())
    where = to_hub(folder, target) if kind == "hub" else str(folder)
    log.info("%d experts published to %s", len(tasks), where)


def add_arguments(parser: ArgumentParser) -> None:
    """Where to."""
    parser.add_argument("--to", required=True, help="folder:<path> or hub:<owner>/<name>")


if __name__ == "__main__":
    run_stage(main, "Publish the trained experts.", add_arguments)
