"""The whole pipeline with tiny budgets, as a user runs it: one command, every stage for real."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import yaml

from pipeline import frames
from pipeline.tasks import get_task

pytestmark = pytest.mark.timeout(1800)  # the first test waits for the whole pipeline
PROJECT = Path(__file__).resolve().parents[1]
SOURCES = ("pipeline", "experts", "dataset_builder", "trainer", "dvc.yaml", ".dvcignore")
TINY = {
    "mujoco": {
        "tasks": ["mujoco-pendulum"],
        "expert": {"steps": 3000, "envs": 16, "gate_episodes": 8},
        "collect": {"episodes": 16, "slots": 4, "episodes_per_slot": 2},
    },
    "metaworld": {
        "tasks": ["metaworld-button-press"],
        "expert": {"source": "scripted", "sources": {}, "gate_episodes": 2},
        "collect": {"episodes": 6, "slots": 2, "episodes_per_slot": 1},
    },
    "babyai": {
        "tasks": ["babyai-go-to-obj"],
        "expert": {"source": "bot", "gate_episodes": 8},
        "collect": {"episodes": 32, "slots": 4, "episodes_per_slot": 4},
    },
    "atari": {
        "tasks": ["atari-pong"],
        "expert": {"steps": 600, "envs": 4, "gate_episodes": 2},
        "collect": {"steps": 2000, "slots": 2, "episodes_per_slot": 1, "test_fraction": 0.4},
    },
    "environments": {
        "taxi": {"id": "Taxi-v4"},  # one integer of 500
        "hill": {"id": "MountainCarContinuous-v0", "max_episode_steps": 60},
        "screen": {"id": "CartPole-v1", "pixels": True, "max_episode_steps": 30},
    },
    "gymnasium": {
        "expert": {"steps": 600, "envs": 4, "gate_episodes": 4},
        "collect": {"episodes": 8, "slots": 2, "episodes_per_slot": 2},
    },
    "domains": {
        "lights": {
            "module": "lights.py",
            "expert": {
                "sources": {"lights-6": "switcher"},
                "steps": 600,
                "envs": 4,
                "gate_episodes": 4,
            },
            "collect": {"episodes": 8, "slots": 2, "episodes_per_slot": 2},
        }
    },
    "random_episodes": 8,
    "jat": {"steps": 12, "batch_tokens": 512, "vocab_size": 400, "save_every": 6},
    "evaluation": {
        "episodes": 2,
        "domain_episodes": {"mujoco": 2, "atari": 2},
        "envs": 2,
        "bootstrap": 50,
    },
}


PUBLISHED = ("mujoco-pendulum", "metaworld-button-press", "babyai-go-to-obj", "atari-pong")
BROUGHT = ("taxi", "hill", "screen", "lights-4", "lights-6")


def tiny_params() -> dict:
    """``params.yaml`` with tiny budgets: the same keys, so the same code."""
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    for key, value in TINY.items():
        params[key] = {**params[key], **value} if isinstance(value, dict) else value
    params["text"][0]["limit"] = 120
    for corpus in params["vision"]:
        corpus |= {"train": 12, "test": 4, "image_size": 84}
    return params


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("VIRTUAL_ENV", None)
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project in which ``dvc repro`` has run."""
    folder = tmp_path_factory.mktemp("project")
    for name in SOURCES:
        source = PROJECT / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / name, ignore=ignore)
        else:
            shutil.copy(source, folder / name)
    shutil.copy(PROJECT / "tests" / "own" / "lights.py", folder)
    (folder / "params.yaml").write_text(yaml.safe_dump(tiny_params()))
    shutil.copytree(
        PROJECT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache")
    )
    assert run("git", "init", "--quiet", cwd=folder).returncode == 0
    done = run("dvc", "repro", "collect_atari", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    built = {path.name for path in (folder / "artifacts").iterdir()}
    assert built <= {"code", "experts", "episodes", "random", "training"}
    assert {p.name for p in (folder / "artifacts" / "experts").iterdir()} == {"atari"}
    done = run("dvc", "repro", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_second_run_does_nothing(project):
    done = run("dvc", "repro", cwd=project)
    assert done.returncode == 0
    assert "up to date" in done.stdout
    assert "Running stage" not in done.stdout


def test_a_forced_run_finds_everything_built(project):
    weights = project / "artifacts" / "jat" / "model.safetensors"
    expert = project / "artifacts" / "experts" / "atari" / "atari-pong" / "model.safetensors"
    before = [path.stat().st_mtime_ns for path in (weights, expert)]
    done = run("dvc", "repro", "--force", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.stat().st_mtime_ns for path in (weights, expert)] == before


def test_every_domain_is_in_the_dataset(project):
    names = {path.name for path in (project / "artifacts" / "dataset").iterdir() if path.is_dir()}
    params = tiny_params()
    corpora = {corpus["name"] for corpus in params["text"] + params["vision"]}
    assert names == {*PUBLISHED, *BROUGHT, *corpora}


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_loads_both_splits(project, streaming, tmp_path):
    dataset = str(project / "artifacts" / "dataset")
    task = "metaworld-button-press"
    splits = datasets.load_dataset(dataset, task, streaming=streaming, cache_dir=str(tmp_path))
    assert set(splits) == {"train", "test"}
    floats = datasets.List(datasets.List(datasets.Value("float32")))
    features = splits["train"].features
    assert features["continuous_observations"] == floats
    assert features["continuous_actions"] == floats
    assert features["rewards"] == datasets.List(datasets.Value("float32"))
    rows = [row for split in splits.values() for row in split]
    assert len(rows) >= 6
    for row in rows:
        assert np.shape(row["continuous_observations"]) == (100, 39)
        assert np.shape(row["continuous_actions"]) == (100, 4)


def test_atari_frames_come_back_as_stacks(project):
    dataset = str(project / "artifacts" / "dataset")
    game = next(iter(datasets.load_dataset(dataset, "atari-pong", split="test", streaming=True)))
    stacks = frames.stack(frames.from_bytes(game["frames"]))
    assert stacks.shape == (len(game["rewards"]), 4, 84, 84)
    assert stacks.dtype == np.uint8
    assert (stacks[10, 3] == stacks[11, 2]).all()


def test_jat_is_scored_on_every_task(project):
    scores = json.loads((project / "artifacts" / "evaluation" / "scores.json").read_text())
    assert set(scores["tasks"]) == {*PUBLISHED, *BROUGHT}
    assert set(scores["domains"]) >= {"gymnasium", "lights"}
    assert scores["tasks"]["lights-6"]["success"] is not None


def test_the_report_names_every_task(project):
    page = (project / "artifacts" / "report" / "index.html").read_text()
    titles = [get_task(task).title for task in PUBLISHED]
    for title in (*titles, "Taxi-v4", "MountainCarContinuous-v0", "6 lamps", "Lights"):
        assert title in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_brought_environments_have_the_columns_of_their_modality(project):
    def row(task: str) -> dict:
        dataset = str(project / "artifacts" / "dataset")
        return next(iter(datasets.load_dataset(dataset, task, split="test", streaming=True)))

    taxi, hill, screen, lamps = (row(task) for task in ("taxi", "hill", "screen", "lights-6"))
    steps = len(taxi["rewards"])
    assert np.shape(taxi["discrete_observations"]) == (steps, 1)
    assert max(taxi["discrete_actions"]) < 6
    assert np.shape(hill["continuous_observations"])[1:] == (2,)
    assert np.shape(hill["continuous_actions"])[1:] == (1,)
    assert frames.from_bytes(screen["frames"]).shape == (len(screen["rewards"]), 84, 84)
    assert lamps["success"][-1]
    assert lamps["policy"] == "switcher"


def test_brought_episodes_can_be_replayed(project):
    done = run(sys.executable, "-m", "dataset_builder.validate", "artifacts/dataset",
               "--replay", "2", cwd=project)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_brought_experts_can_be_watched_and_published(project):
    done = run(sys.executable, "-m", "experts.play", "--task", "screen",
               "--output", "screen.gif", "--frames", "5", cwd=project)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    done = run(sys.executable, "-m", "experts.publish", "--task", "screen",
               "--to", "folder:shared", cwd=project)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    done = run(sys.executable, "-m", "experts.score", "--task", "screen", "--episodes", "2",
               "--params", "shared/screen/params.yaml", "--folder", "shared/screen",
               cwd=project)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_metrics_and_plots_are_declared(project):
    metrics = json.loads(run("dvc", "metrics", "show", "--json", cwd=project).stdout)
    files = metrics[""]["data"]
    assert "metrics/evaluation.json" in files
    assert all("data" in content for content in files.values())


def test_a_truncated_shard_is_named_and_nothing_built_is_lost(project):
    shard = next((project / "artifacts" / "dataset" / "mujoco-pendulum").glob("train-*.parquet"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    try:
        dataset = str(project / "artifacts" / "dataset")
        done = run(sys.executable, "-m", "trainer.run", "--dataset", dataset,
                   "--output", "artifacts/other", cwd=project)  # fmt: skip
        assert done.returncode == 2, done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert shard.name in line
        assert (project / "artifacts" / "jat" / "config.json").exists()
    finally:
        shard.write_bytes(whole)
