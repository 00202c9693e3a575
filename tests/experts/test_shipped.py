import shutil
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from untrained import project

from experts import ship, sources
from experts.load import load_policy
from experts.sharing import described as trained
from experts.sharing.described import trained_experts
from experts.train import expert_jobs, make_expert
from pipeline.engines import make_envs
from pipeline.errors import UserError
from pipeline.params import Params, load_params
from pipeline.stage import read_json
from pipeline.tasks import get_task

ID = "mujoco-reacher"
ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "experts" / "shipped").glob("[!.]*"))


@pytest.fixture
def unit(tmp_path, monkeypatch):
    """An expert that the gate calls one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "shipped_root", lambda: tmp_path / "shipped")
    judged(monkeypatch, "expert")
    return project(ID)


def judged(monkeypatch, verdict):
    score = dict.fromkeys(trained.SCORES, 1.0) | {"verdict": verdict}
    monkeypatch.setattr(trained, "score", lambda unit, folder: score)


def test_what_was_shipped_is_an_expert_at_once(unit, tmp_path):
    assert ship.ship(trained_experts(load_params()), tmp_path / "shipped") == [ID]
    there = tmp_path / "shipped" / ID
    assert {path.name for path in there.iterdir()} == {
        "config.json", "model.safetensors", "curve.csv", "score.json",
    }  # fmt: skip
    raw = load_params().model_dump()
    raw["mujoco"]["expert"] = {"source": "shipped", "gate_episodes": 4}
    (other,) = expert_jobs(Params.model_validate(raw), "mujoco")
    result = make_expert(other)
    assert result["episodes"] == 4
    config = read_json(other.folder / "config.json")
    assert (config["source"], config["fingerprint"]) == ("shipped", other.fingerprint)
    assert config["provenance"]["wall_seconds"] == 3.25
    task = get_task(ID)
    theirs, ours = (load_policy(task, folder, 0) for folder in (there, other.folder))
    assert theirs.checksum == ours.checksum
    before = (other.folder / "model.safetensors").stat().st_mtime_ns
    assert make_expert(other) == result
    assert (other.folder / "model.safetensors").stat().st_mtime_ns == before


def test_the_provenance_trains_the_same_expert(unit):
    made = trained.describe(unit).config["provenance"]
    (again,) = expert_jobs(Params.model_validate(made["params"]), "mujoco")
    assert again.fingerprint == unit.fingerprint
    assert (again.mode, again.episodes, again.seed) == (unit.mode, unit.episodes, unit.seed)
    assert made["command"] == "python -m experts.train --domain mujoco --params params.yaml"


def test_what_was_taken_over_keeps_its_provenance(unit, tmp_path):
    ship.ship([unit], tmp_path / "shipped")
    first = read_json(tmp_path / "shipped" / ID / "config.json")["provenance"]
    shipped = project(ID, source="shipped")
    shutil.rmtree(shipped.folder)
    make_expert(shipped)
    assert trained.describe(shipped).config["provenance"] == first


@pytest.mark.parametrize("verdict", ["weak", "failed"])
def test_only_good_experts_are_shipped(unit, tmp_path, monkeypatch, verdict):
    judged(monkeypatch, verdict)
    with pytest.raises(UserError, match="none of these experts"):
        ship.ship([unit], tmp_path / "shipped")
    assert not (tmp_path / "shipped").exists()


def test_the_limit_counts_what_is_there_and_not_what_is_replaced(unit, tmp_path, monkeypatch):
    root = tmp_path / "shipped"
    ship.ship([unit], root)
    size = ship.size(root)
    assert size == sum(path.stat().st_size for path in (root / ID).iterdir())
    monkeypatch.setattr(ship, "LIMIT", size)
    ship.ship([unit], root)
    (root / "mujoco-hopper").mkdir()
    (root / "mujoco-hopper" / "model.safetensors").write_bytes(b"x")
    (root / ID / "curve.csv").unlink()
    with pytest.raises(UserError, match=f"{size + 1:,} bytes together"):
        ship.ship([unit], root)
    assert not (root / ID / "curve.csv").exists()


def test_shipped_experts_are_few_bytes():
    assert ship.size(ROOT / "experts" / "shipped") <= ship.LIMIT


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_a_shipped_expert_is_complete_and_acts(folder):
    task, config = get_task(folder.name), read_json(folder / "config.json")
    made = config["provenance"]
    assert made["command"].startswith("python -m experts.train ")
    Params.model_validate(made["params"])
    assert made["steps"] > 0
    assert made["wall_seconds"] > 0
    assert made["versions"]["envpool"]
    score = made["score"]
    assert score["verdict"] == "expert"
    assert score["low"] <= score["mean"] <= score["high"]
    assert score["episodes"] >= 1
    read_json(folder / "score.json")
    envs = make_envs(task, [1, 2], **config["env"])
    policy = load_policy(task, folder, seed=0)
    policy.bind(envs)
    observations, started = envs.reset(), np.ones(2, bool)
    for _ in range(5):
        actions = policy.act(observations, np.arange(2), started, np.zeros(2, np.float32))
        assert np.isfinite(actions).all()
        step = envs.step(actions)
        observations, started = step.observations, step.ended
    envs.close()


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_a_shipped_expert_is_part_of_the_package(folder):
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for path in folder.iterdir():
        name = path.relative_to(ROOT / "experts").as_posix()
        assert any(fnmatch(name, pattern) for pattern in setup["package-data"]["experts"])
