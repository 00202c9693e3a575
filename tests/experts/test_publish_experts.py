import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import yaml
from huggingface_hub import ModelCard
from untrained import project

from experts import publish, sources
from experts.load import load_policy
from experts.train import expert_jobs
from pipeline.errors import UserError
from pipeline.params import load_params
from pipeline.publication import MARKER
from pipeline.stage import read_json, write_json
from pipeline.tasks import get_task

ID = "mujoco-reacher"
TASK = get_task(ID)
FILES = {
    MARKER, "README.md", "config.json", "curve.csv", "curve.png", "model.safetensors",
    "params.yaml", "replay.mp4", "score.json",
}  # fmt: skip


@pytest.fixture
def unit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(publish, "FRAMES", 3)
    return project(ID)


def run(to="folder:out", id=None):
    for repository in publish.repositories(load_params(), to, id):
        publish.publish(repository)


def program(*command, cwd):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True, text=True, check=False, env=environment, cwd=cwd,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_published_expert_is_all_that_is_needed(unit, tmp_path):
    run()
    there = tmp_path / "out" / ID
    assert {path.name for path in there.iterdir()} == FILES
    config, score = read_json(there / "config.json"), read_json(there / "score.json")
    assert config["provenance"]["wall_seconds"] == 3.25
    assert config["provenance"]["score"]["mean"] == score["mean"]
    (again,) = expert_jobs(load_params(there / "params.yaml"), "mujoco")
    assert again.fingerprint == unit.fingerprint
    assert (there / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert cv2.VideoCapture(str(there / "replay.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3

    # A fresh process with nothing but the project and this folder: the same score again.
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    printed = program(
        "-m", "experts.score", "--task", ID, "--folder", str(there), "--json",
        "--params", str(there / "params.yaml"), "--episodes", str(score["episodes"]),
        "--seed", str(unit.seed), cwd=fresh,
    )  # fmt: skip
    result = json.loads(printed)
    assert printed.count("\n") == 1
    assert score["low"] <= result["mean"] <= score["high"]
    assert result["mean"] == pytest.approx(score["mean"])

    (code,) = re.findall(r"```python\n(.*?)```", (there / "README.md").read_text(), re.DOTALL)
    assert len(code.split("\n\n")) == 2
    assert len([line for line in code.splitlines() if line]) <= 5
    checksum = program("-c", f"{code}\nprint(policy.checksum)", cwd=there.parent).strip()
    assert checksum == load_policy(TASK, unit.folder, 0).checksum


def test_the_card_says_what_the_hub_indexes(unit, tmp_path):
    run()
    there = tmp_path / "out" / ID
    card, score = ModelCard.load(there / "README.md"), read_json(there / "score.json")
    (result,) = card.data.eval_results
    assert result.task_type == "reinforcement-learning"
    assert result.dataset_name == "Reacher-v4"
    assert result.metric_type == "mean_reward"
    assert result.metric_value == f"{score['mean']:.2f} ± {score['std']:.2f}"
    assert result.verified is False
    assert {ID, "deep-reinforcement-learning", "sample-factory"} <= set(card.data.tags)
    for key, value in unit.recipe.items():
        assert f"| {key} | {value} |" in card.text
    for said in ("| steps | 1024 |", "| envs | 8 |", "| seed | 3 |", "numpy 2.3.5", "curve.png"):
        assert said in card.text
    assert f"{score['low']:.2f} … {score['high']:.2f}" in card.text


def test_what_is_there_already_is_left_alone(unit, tmp_path, monkeypatch):
    run()
    path = tmp_path / "out" / ID / "README.md"
    before = path.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(publish, "record", None)
        run()
    assert path.stat().st_mtime_ns == before
    (path.parent / "curve.csv").write_text("spoilt")
    run()
    assert path.with_name("curve.csv").read_text() == (unit.folder / "curve.csv").read_text()
    assert [folder.name for folder in path.parents[1].iterdir()] == [ID]


def test_an_expert_without_a_curve_is_published_without_a_picture(unit, tmp_path):
    (unit.folder / "curve.csv").write_text("steps,seconds,return\n")
    run()
    assert not (tmp_path / "out" / ID / "curve.png").exists()
    assert "curve.png" not in (tmp_path / "out" / ID / "README.md").read_text()


@pytest.mark.parametrize("layout", ["a repository an expert", "a repository of folders"])
def test_what_is_published_can_be_used_as_a_source(unit, tmp_path, monkeypatch, layout):
    run()
    repository = tmp_path / "out" / ("" if layout == "a repository of folders" else ID)
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda *_, dry_run=False, **__: [] if dry_run else str(repository),
    )
    copied = tmp_path / "copied"
    copied.mkdir()
    config = sources.hub(TASK, f"hub:someone/{ID}@main", copied, {})
    assert config["provenance"]["seed"] == 3
    assert load_policy(TASK, copied, 0).checksum == load_policy(TASK, unit.folder, 0).checksum


class FakeHub:
    """Remembers what was uploaded."""

    uploaded: dict
    commit_url = "https://hub/commit"

    def create_repo(self, repository, repo_type, exist_ok):
        assert (repo_type, exist_ok) == ("model", True)

    def list_repo_files(self, repository, repo_type):
        return [".gitattributes"]

    def create_commit(self, repository, operations, commit_message, repo_type):
        self.uploaded[repository] = {one.path_in_repo: one.path_or_fileobj for one in operations}
        return self


def test_on_the_hub_each_expert_is_a_repository(unit, monkeypatch):
    monkeypatch.setattr(FakeHub, "uploaded", {}, raising=False)
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)
    run("hub:someone")
    (files,) = FakeHub.uploaded.values()
    assert list(FakeHub.uploaded) == [f"someone/{ID}"]
    assert set(files) == FILES
    assert f'snapshot_download("someone/{ID}")' in Path(files["README.md"]).read_text()


def test_an_upload_that_fails_is_one_line(unit, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network\nat all")

    monkeypatch.setattr(FakeHub, "create_repo", refuse)
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)
    with pytest.raises(UserError, match=rf"cannot upload to 'someone/{ID}' \(no network\)"):
        run("hub:someone")


def test_a_broken_expert_is_not_published(unit, tmp_path):
    (unit.folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"model\.safetensors"):
        run()
    assert not (tmp_path / "out").exists()


def test_an_expert_of_other_parameters_is_not_published(unit):
    raw = yaml.safe_load(Path("params.yaml").read_text())
    raw["mujoco"]["expert"]["steps"] = 2000
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(UserError, match="other parameters"):
        run()


def test_without_a_trained_expert_there_is_nothing_to_publish(unit):
    config = read_json(unit.folder / "config.json")
    write_json(unit.folder / "config.json", {**config, "kind": "scripted"})
    with pytest.raises(UserError, match="no trained expert of mujoco-reacher"):
        run(id=ID)
    with pytest.raises(UserError, match="no trained expert is there"):
        run()


def test_other_peoples_files_are_not_replaced(unit):
    photo = Path("photos", ID, "holiday.png")
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b"mine")
    with pytest.raises(UserError, match="is not empty and nothing was published there"):
        run("folder:photos")
    assert [*Path("photos").rglob("*")] == [photo.parent, photo]


@pytest.mark.parametrize(
    "to", ["folder:artifacts/experts", "folder:artifacts/experts/mujoco", "folder:.", "folder:/",
           "folder:~", "folder:link", "hub:.."],
)  # fmt: skip
def test_experts_are_not_published_over_the_stages_files(unit, to):
    Path("link").symlink_to(Path("artifacts/experts").absolute())
    before = sorted(Path().rglob("*"))
    with pytest.raises(UserError, match=r"^--to: "):
        run(to)
    assert sorted(Path().rglob("*")) == before


def test_an_expert_published_before_there_were_markers_is_taken_over(unit, monkeypatch):
    run("folder:artifacts/published_experts")
    place = Path("artifacts/published_experts", ID)
    (place / MARKER).unlink()
    (place / "notes.txt").write_text("mine")
    (place / "curve.csv").write_text("spoilt")
    run("folder:artifacts/published_experts")
    assert {path.name for path in place.iterdir()} == FILES | {"notes.txt"}
    assert (place / "curve.csv").read_text() == (unit.folder / "curve.csv").read_text()


def test_another_experts_publication_is_not_replaced(unit):
    run()
    marker = Path("out", ID, MARKER)
    write_json(marker, {**read_json(marker), "of": "mujoco-ant"})
    with pytest.raises(UserError, match="another publication already"):
        run()


@pytest.mark.parametrize(
    ("to", "id", "message"),
    [
        ("somewhere", None, "is not folder:<path> or hub:<owner>"),
        ("hub:someone/experts", None, "each expert is a repository"),
        ("folder:out", "mujoco-reach", "did you mean 'mujoco-reacher'"),
    ],
)
def test_a_bad_request_is_one_line(unit, to, id, message):
    with pytest.raises(UserError, match=message):
        run(to, id)
