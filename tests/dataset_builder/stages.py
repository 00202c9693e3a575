"""What the tests of collect, build, validate and publish share: a tiny project to run them in."""

import dataclasses
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from dataset_builder import build, collect
from pipeline.domains import PUBLISHED_DOMAINS, get_domain
from pipeline.params import Params
from pipeline.paths import expert_folder
from pipeline.stage import read_json, write_json
from pipeline.tasks import get_task

ROOT = Path(__file__).parents[2]
TASKS = {
    "mujoco": ["mujoco-pendulum"],
    "metaworld": ["metaworld-reach"],
    "babyai": ["babyai-go-to-obj"],
    "atari": ["atari-pong"],
}
BUDGET = {"episodes": 12, "slots": 3, "episodes_per_slot": 2}


def error_line(*command: str) -> str:
    """What ``python -m`` with a mistake says, which must be one line and exit code 2."""
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def settings(*names: str, **more: Any) -> dict[str, Any]:
    """Parameters with the tasks of some domains; ``more`` goes into these domains."""
    domains = {
        name: {
            "tasks": TASKS[name] if name in names else [],
            "expert": {"source": "bot" if name == "babyai" else "train"},
            "collect": BUDGET,
            **more,
        }
        for name in PUBLISHED_DOMAINS
    }
    return {"profile": "test", "seed": 3, "workers": 1, **domains}


def play_at_random(monkeypatch: Any, policy: str = "random_policy:load") -> None:
    """Put a random policy in the place of every domain's expert."""
    for name in PUBLISHED_DOMAINS:
        domain = dataclasses.replace(get_domain(name), policy=policy)
        monkeypatch.setattr(f"pipeline.domains.{name}.DOMAIN", domain)


def leave_scores(name: str) -> None:
    """Leave here what the gate says of a domain's experts, so that they are collected from."""
    for id in TASKS[name]:
        write_json(expert_folder(get_task(id)) / "score.json", {"verdict": "not scored"})


def run_collect(
    name: str, seed: int = 3, workers: int = 1, accept_code: bool = False, **more: Any
) -> dict[str, Any]:
    """Run the stage for one domain; returns task -> manifest.

    Experts have a score, unless ``more`` says what they are.
    """
    if "expert" not in more:
        leave_scores(name)
    parameters = settings(name, **more) | {"seed": seed, "workers": workers}
    collect.main(Params.model_validate(parameters), Namespace(domain=name, accept_code=accept_code))
    return {
        path.parent.name: read_json(path)
        for path in Path(f"artifacts/episodes/{name}").glob("*/manifest.json")
    }


def run_build(*names: str, **more: Any) -> dict[str, Any]:
    """Run the stage for the tasks of some domains; returns its metrics."""
    build.main(Params.model_validate({**settings(*names), **more}), Namespace())
    return read_json("metrics/dataset.json")


def contents(folder: str | Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = (path for path in sorted(Path(folder).rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
