import json
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
import yaml
from fake_hub import Hub
from huggingface_hub import HfApi
from stages import contents, play_at_random, run_build, run_collect, settings

from dataset_builder import publish
from dataset_builder.validate import find_problems
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.publication import MARKER
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


def published(folder: str | Path) -> dict[str, bytes]:
    """The files below a folder, less the marker."""
    files = contents(folder)
    assert files.pop(MARKER)
    return files


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
    assert published("out/jat") == contents(DATASET)
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
    assert published("out") == contents(DATASET)
    assert not Path("out/babyai-go-to-obj").exists()


def test_a_damaged_dataset_is_not_published(project: Path) -> None:
    path = DATASET / "mujoco-pendulum/test-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"test-00000-of-00001\.parquet: .* bytes"):
        run("folder:out")
    assert not Path("out").exists()


@pytest.mark.parametrize("target", ["artifacts/dataset", "artifacts/dataset/x", "artifacts"])
def test_the_dataset_is_not_overwritten_by_itself(project: Path, target: str) -> None:
    with pytest.raises(UserError, match=r"overlaps with|place of the stages"):
        run(f"folder:{target}")


def test_other_peoples_files_are_not_replaced(project: Path) -> None:
    Path("photos/holiday").mkdir(parents=True)
    with pytest.raises(UserError, match=r"photos' is not empty and nothing was published there"):
        run("folder:photos")
    Path("note").write_text("")
    with pytest.raises(UserError, match=r"note' is not a folder"):
        run("folder:note")
    assert Path("photos/holiday").is_dir()


def listing(folder: Path) -> list[tuple[str, int, str]]:
    """Every path below a folder: its mode, and the checksum of a file or the target of a link."""
    found = []
    for path in sorted(folder.rglob("*")):
        content = str(path.readlink()) if path.is_symlink() else ""
        if path.is_file() and not content:
            content = sha256(path.read_bytes()).hexdigest()
        found.append((str(path.relative_to(folder)), path.lstat().st_mode, content))
    return found


@pytest.mark.parametrize(
    "target",
    [
        "artifacts/episodes/mujoco",
        "artifacts/episodes/new",
        "artifacts/episodes/../episodes/mujoco",
        "artifacts/published/../episodes/mujoco",
        "artifacts/published/notes",
        "link",
        "folders/link",
        "artifacts/published/link",
        ".",
        "..",
        "/",
        "~",
        str(ROOT),
        "neighbour",
        "neighbour/artifacts/episodes",
    ],
)
def test_what_is_not_ours_is_refused_and_left_as_it_was(
    project: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setenv("HOME", str(project.parent / "home"))
    for folder in (
        "../home",
        "neighbour/artifacts/episodes",
        "folders",
        "artifacts/published/notes",
    ):
        Path(folder).mkdir(parents=True)
    for notes in (
        "../home",
        "neighbour",
        "neighbour/artifacts/episodes",
        "artifacts/published/notes",
    ):
        Path(notes, "README.md").write_text("# Mine")
    for link in ("link", "folders/link", "artifacts/published/link"):
        Path(link).symlink_to(Path("artifacts/episodes").resolve(), target_is_directory=True)
    before, repository = listing(project.parent), sorted(ROOT.iterdir())
    with pytest.raises(UserError, match=r"'publish\.to'"):
        run(f"folder:{target}")
    assert listing(project.parent) == before
    assert sorted(ROOT.iterdir()) == repository


def test_the_refusal_is_one_line_of_the_command(project: Path) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(parameters("folder:artifacts/episodes/mujoco")))
    before = listing(project)
    done = program("http://127.0.0.1:9", project.parent / "home", "-m", "dataset_builder.publish")
    assert done.returncode == 2
    assert done.stderr.startswith("error: 'publish.to': ")
    assert done.stderr.count("\n") == 1
    assert listing(project) == before


def test_ones_own_files_in_a_publication_stay(project: Path) -> None:
    run("folder:out")
    Path("out/notes.txt").write_text("mine")
    Path("out/babyai-go-to-obj/notes.txt").write_text("mine too")
    shutil.rmtree(DATASET / "babyai-go-to-obj")
    run("folder:out")
    mine = {"notes.txt": b"mine", "babyai-go-to-obj/notes.txt": b"mine too"}
    assert published("out") == contents(DATASET) | mine


def test_a_dataset_published_before_there_were_markers_is_taken_over(project: Path) -> None:
    place = Path("artifacts/published/dataset")
    shutil.copytree(DATASET, place)
    shutil.rmtree(DATASET / "babyai-go-to-obj")
    run(f"folder:{place}")
    assert published(place) == contents(DATASET)
    shutil.copytree(DATASET, "elsewhere")
    with pytest.raises(UserError, match=r"elsewhere' is not empty .* name a new folder"):
        run("folder:elsewhere")


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
        there = dict(hub.repositories["someone/jat"])
        assert there.pop(MARKER)
        assert there == contents(DATASET)
    assert hub.uploads == 4
    assert read_json("artifacts/published.json")["commit"] == hub.revision("someone/jat")
    loaded = program(hub.url, project / "home", "-c", LOAD)
    assert loaded.returncode == 0, loaded.stderr
    whole, stream = json.loads(loaded.stdout.splitlines()[-1])
    assert whole == stream
    assert all(whole.values())
    assert sum(map(len, whole.values())) == 12


def test_on_the_hub_only_what_was_published_is_deleted(
    project: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi", partial(HfApi, endpoint=hub.url, token="hf_test"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    run("hub:someone/jat")
    there = hub.repositories["someone/jat"]
    there["notes.md"] = b"mine"
    shutil.rmtree(DATASET / "babyai-go-to-obj")
    run("hub:someone/jat")
    assert there.pop(MARKER)
    assert there.pop("notes.md") == b"mine"
    assert there == contents(DATASET)
    before = dict(there)
    with pytest.raises(UserError, match="'someone/jat' has files that were not published"):
        run("hub:someone/jat")
    assert there == before


def test_no_network_is_one_line(project: Path) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(parameters("hub:someone/jat")))
    done = program("http://127.0.0.1:9", project / "home", "-m", "dataset_builder.publish")
    assert done.returncode == 2
    assert "error: cannot upload to 'someone/jat'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_repository_is_one_line(project: Path) -> None:
    with pytest.raises(UserError, match="'a b/c' is no repository's name"):
        run("hub:a b/c")
