import json
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fake_hub import Hub
from stages import contents, play_at_random, run_build, run_collect, settings

from dataset_builder import publish
from dataset_builder.validate import find_problems
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.stage import read_json

ROOT = Path(__file__).parents[2]
DATASET = Path("artifacts/dataset")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a dataset."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        play_at_random(patch)
        for name in ("mujoco", "babyai"):
            run_collect(name)
        run_build("mujoco", "babyai")
    return folder


@pytest.fixture
def project(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to work in."""
    folder = Path(shutil.copytree(built, tmp_path / "project"))
    monkeypatch.chdir(folder)
    return folder


def parameters(to: str) -> dict:
    return settings("mujoco", "babyai") | {"publish": {"to": to}}


def run(to: str) -> None:
    publish.main(Params.model_validate(parameters(to)), Namespace())


@pytest.mark.parametrize("links", [True, False])
def test_a_folder_gets_the_same_files(
    project: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError("another file system")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    run("folder:out/jat")
    run("folder:out/jat")
    assert contents("out/jat") == contents(DATASET)
    assert [path.name for path in Path("out").iterdir()] == ["jat"]
    assert find_problems("out/jat") == []
    file = "mujoco-pendulum/train-00000-of-00001.parquet"
    assert Path("out/jat", file).samefile(DATASET / file) == links
    record = read_json("artifacts/published.json")
    assert record["to"] == "folder:out/jat"
    assert len(record["sha256"]) == 4


def test_configurations_that_are_gone_go_there_too(project: Path) -> None:
    run("folder:out")
    shutil.rmtree(DATASET / "babyai-go-to-obj")
    run("folder:out")
    assert sorted(path.name for path in Path("out").iterdir()) == ["README.md", "mujoco-pendulum"]


def test_a_damaged_dataset_is_not_published(project: Path) -> None:
    path = DATASET / "mujoco-pendulum/test-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"test-00000-of-00001\.parquet: .* bytes"):
        run("folder:out")
    assert not Path("out").exists()


@pytest.mark.parametrize("target", ["artifacts/dataset", "artifacts/dataset/x", "artifacts"])
def test_the_dataset_is_not_overwritten_by_itself(project: Path, target: str) -> None:
    with pytest.raises(UserError, match="overlaps with the dataset"):
        run(f"folder:{target}")


def test_other_peoples_files_are_not_replaced(project: Path) -> None:
    Path("photos/holiday").mkdir(parents=True)
    with pytest.raises(UserError, match=r"photos' holds something other"):
        run("folder:photos")
    Path("note").write_text("")
    with pytest.raises(UserError, match=r"note' holds something other"):
        run("folder:note")
    assert Path("photos/holiday").is_dir()


def test_a_bad_target_is_told() -> None:
    with pytest.raises(ValueError, match="neither folder:<path> nor hub:<owner>/<name>"):
        Params.model_validate(parameters("ftp://somewhere"))


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    yield server
    server.close()


def program(endpoint: str, home: Path, *command: str) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_TOKEN": "hf_test",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=300
    )


LOAD = """
import json, datasets
whole = datasets.load_dataset("someone/jat", "mujoco-pendulum")
stream = datasets.load_dataset("someone/jat", "mujoco-pendulum", streaming=True)
print(json.dumps([{split: rows["seed"][:] for split, rows in whole.items()},
                  {split: [row["seed"] for row in rows] for split, rows in stream.items()}]))
"""


def test_uploaded_and_loaded_again(project: Path, hub: Hub) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(parameters("hub:someone/jat")))
    for _ in range(2):
        done = program(hub.url, project / "home", "-m", "dataset_builder.publish")
        assert done.returncode == 0, done.stderr
        there = hub.repositories["someone/jat"]
        assert there == contents(DATASET)
        there["an-older-task/train-00000-of-00001.parquet"] = b""
    assert hub.uploads == 4
    del there["an-older-task/train-00000-of-00001.parquet"]
    assert read_json("artifacts/published.json")["commit"] == hub.revision("someone/jat")
    loaded = program(hub.url, project / "home", "-c", LOAD)
    assert loaded.returncode == 0, loaded.stderr
    whole, stream = json.loads(loaded.stdout.splitlines()[-1])
    assert whole == stream
    assert {split: len(seeds) for split, seeds in whole.items()} == {"train": 11, "test": 1}


def test_no_network_is_one_line(project: Path) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(parameters("hub:someone/jat")))
    done = program("http://127.0.0.1:9", project / "home", "-m", "dataset_builder.publish")
    assert done.returncode == 2
    assert "error: cannot upload to 'someone/jat'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_repository_is_one_line(project: Path) -> None:
    with pytest.raises(UserError, match="'a b/c' is no repository's name"):
        run("hub:a b/c")
