import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experts import sources
from experts.load import load_policy
from experts.score import score
from experts.train import expert_jobs, make_expert, write_metrics
from pipeline import paths
from pipeline.errors import UserError
from pipeline.params import load_params
from pipeline.stage import read_json
from pipeline.tasks import get_task

SMALL = {
    "profile": "test",
    "workers": 1,
    "random_episodes": 4,
    "mujoco": {
        "tasks": ["mujoco-pendulum"],
        "expert": {
            "steps": 1000,
            "envs": 8,
            "gate_episodes": 4,
            "recipe": {"rollout": 16, "batch_size": 128, "num_batches_per_epoch": 1},
        },
        "collect": {"episodes": 10},
    },
    "metaworld": {
        "tasks": ["metaworld-button-press"],
        "expert": {"source": "scripted", "gate_episodes": 40},
        "collect": {"episodes": 10},
    },
    "babyai": {
        "tasks": ["babyai-go-to-red-ball-grey"],
        "expert": {"source": "bot", "gate_episodes": 40},
        "collect": {"episodes": 10},
    },
    "atari": {"collect": {"episodes": 10}},
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(**changes):
        raw = json.loads(json.dumps(SMALL))
        for dotted, value in changes.items():
            *groups, key = dotted.split("__")
            group = raw
            for name in groups:
                group = group[name]
            group[key] = value
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
        return load_params()

    return write


def stage(domain, *options):
    command = [sys.executable, "-m", "experts.train", "--domain", domain, *options]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_the_stage_leaves_an_expert_that_plays(project):
    params = project()
    done = stage("mujoco")
    assert done.returncode == 0, done.stderr
    task = get_task("mujoco-pendulum")
    folder = paths.expert_folder(task)
    assert {f.name for f in folder.iterdir()} == {
        "config.json", "curve.csv", "model.safetensors", "score.json", "tensorboard",
    }  # fmt: skip
    metrics = read_json(paths.METRICS / "experts_mujoco.json")
    assert metrics["expert"] + metrics["weak"] + metrics["failed"] == 1
    curve = (paths.METRICS / "curves_mujoco" / "mujoco-pendulum.csv").read_text()
    assert curve == (folder / "curve.csv").read_text()
    assert curve.startswith("steps,seconds,return\n")
    assert not (paths.ARTIFACTS / "training" / task.id).exists()
    assert score(params, task.id, None, episodes=2, seed=5).episodes == 2


def test_an_unchanged_expert_is_left_alone_and_a_changed_one_is_made_anew(project):
    (unit,) = expert_jobs(project(), "mujoco")
    first = make_expert(unit)
    weights = unit.folder / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert make_expert(unit) == first
    assert weights.stat().st_mtime_ns == before

    (regated,) = expert_jobs(project(mujoco__expert__gate_episodes=6), "mujoco")
    assert make_expert(regated)["episodes"] == 6
    assert weights.stat().st_mtime_ns == before

    (other,) = expert_jobs(project(mujoco__expert__mode="argmax"), "mujoco")
    make_expert(other)
    assert load_policy(get_task(unit.task), unit.folder, 0).name.endswith("argmax")
    assert weights.stat().st_mtime_ns == before

    recipe = {**SMALL["mujoco"]["expert"]["recipe"], "learning_rate": 0.002}
    (changed,) = expert_jobs(project(mujoco__expert__recipe=recipe), "mujoco")
    make_expert(changed)
    assert weights.stat().st_mtime_ns != before
    assert read_json(changed.folder / "config.json")["recipe"]["learning_rate"] == 0.002


@pytest.mark.parametrize(("domain", "kind"), [("metaworld", "scripted"), ("babyai", "bot")])
def test_experts_that_need_no_training_succeed(project, domain, kind):
    (unit,) = expert_jobs(project(), domain)
    result = make_expert(unit)
    assert result["verdict"] == "expert"
    assert read_json(unit.folder / "config.json")["kind"] == kind
    write_metrics(domain, [unit], [result])
    assert not list((paths.METRICS / f"curves_{domain}").iterdir())


def test_a_script_without_the_goal_says_what_to_set(project):
    (unit,) = expert_jobs(project(metaworld__env={"goal_visible": False}), "metaworld")
    with pytest.raises(UserError, match="goal_visible"):
        make_expert(unit)
    assert not unit.folder.exists()


def test_bad_settings_end_the_stage_with_one_line(project):
    project(mujoco__expert__recipe={"rollout": 7})
    done = stage("mujoco")
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "mujoco-pendulum" in last


def test_an_expert_from_the_hub_is_the_one_published(project, tmp_path, monkeypatch):
    (unit,) = expert_jobs(project(), "mujoco")
    make_expert(unit)
    published = tmp_path / "hub"
    unit.folder.rename(published)
    (published / "evil.pkl").write_bytes(b"x")
    seen = {}

    def download(repo, revision, allow_patterns, dry_run=False):
        seen.update(repo=repo, revision=revision, patterns=allow_patterns)
        return [] if dry_run else str(published)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    (unit,) = expert_jobs(project(mujoco__expert__source="hub:someone/pendulum@v1"), "mujoco")
    assert make_expert(unit)["task"] == "mujoco-pendulum"
    assert (seen["repo"], seen["revision"]) == ("someone/pendulum", "v1")
    assert not any("pkl" in pattern or pattern == "*" for pattern in seen["patterns"])
    assert not (unit.folder / "evil.pkl").exists()
    task = get_task("mujoco-pendulum")
    theirs, ours = (load_policy(task, f, 0) for f in (published, unit.folder))
    assert theirs.checksum == ours.checksum


@pytest.mark.parametrize("source", ["hub:repo", "hub:someone/repo", "hub:../x@main", "hub:a/b@"])
def test_a_hub_source_needs_a_repository_and_a_revision(source, tmp_path):
    with pytest.raises(UserError, match="hub:<owner>/<repo>@<revision>"):
        sources.hub(get_task("mujoco-pendulum"), source, tmp_path, {})


def test_nothing_is_shipped_for_a_task_without_a_folder(tmp_path):
    with pytest.raises(UserError, match="use 'source: train'"):
        sources.shipped(get_task("mujoco-humanoid"), tmp_path)
