import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from stages import play_at_random, run_build, run_collect

from dataset_builder.validate import find_problems, ranges_of
from pipeline import manifest
from pipeline.engines import make_envs
from pipeline.errors import UserError
from pipeline.shards import write_shard
from pipeline.stage import read_json, write_json
from pipeline.tasks import get_task

ROOT = Path(__file__).parents[2]
NAMES = ("mujoco", "metaworld", "babyai", "atari")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with a task of every domain."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        play_at_random(patch)
        for name in NAMES:
            run_collect(name, collect={"episodes": 6, "slots": 2, "episodes_per_slot": 3})
        run_build(*NAMES)
    return folder / "artifacts/dataset"


@pytest.fixture
def dataset(built: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(built, tmp_path / "dataset"))


def spoil(dataset: Path, task: str, change: Callable[[list[dict]], None]) -> None:
    """Change the rows of a task's train file, and the manifest so that its checksum fits."""
    folder = dataset / task
    path = folder / "train-00000-of-00001.parquet"
    table = pa.parquet.read_table(path)
    rows = table.to_pylist()
    change(rows)
    write_shard(path, table.schema, [pa.Table.from_pylist(rows, schema=table.schema)])
    content = read_json(folder / manifest.NAME)
    for entry in content["files"]:
        if entry["file"] == path.name:
            entry |= manifest.file_record(path) | {"rows": len(rows)}
    write_json(folder / manifest.NAME, content)


@pytest.mark.parametrize("id", ["mujoco-humanoid", "mujoco-pusher", "metaworld-reach"])
def test_actions_at_the_bounds_of_the_box_are_in_it(id: str) -> None:
    task = get_task(id)
    ranges = ranges_of({"task": id, "provenance": {"decides": {"env": {}}}})
    envs = make_envs(task, [0, 1])
    envs.reset()
    beyond = np.repeat([[-9.0], [9.0]], len(ranges.low), axis=1).astype(np.float32)
    low, high = envs.step(beyond).actions
    envs.close()
    np.testing.assert_array_equal(low, ranges.low)
    np.testing.assert_array_equal(high, ranges.high)


def test_a_fresh_dataset_has_none_and_plays_again(built: Path) -> None:
    assert find_problems(built, replay=2) == []


def set_value(column: str, *place: int, value: object) -> Callable[[list[dict]], None]:
    def change(rows: list[dict]) -> None:
        *way, last = (column, *place)
        target = rows[2]
        for key in way:
            target = target[key]
        target[last] = value

    return change


def drop_reward(rows: list[dict]) -> None:
    rows[2]["rewards"] = rows[2]["rewards"][:-1]


SPOILED = [
    ("mujoco-pendulum", drop_reward, "row 2: .* has not one value a step"),
    (
        "mujoco-pendulum",
        set_value("continuous_actions", 0, 0, value=3.5),
        "row 2: 'continuous_actions' leaves the action box",
    ),
    (
        "mujoco-pendulum",
        set_value("continuous_observations", 1, 0, value=np.nan),
        "row 2: 'continuous_observations' is not finite",
    ),
    (
        "mujoco-pendulum",
        set_value("continuous_observations", 1, value=[0.0]),
        "row 2: 'continuous_observations' is not 4 wide",
    ),
    ("mujoco-pendulum", set_value("rewards", 0, value=np.inf), "row 2: 'rewards' is not finite"),
    ("mujoco-pendulum", set_value("rewards", 0, value=None), "'rewards' has missing values"),
    ("mujoco-pendulum", set_value("seed", value=-1), "row 2: 'seed' is outside"),
    ("mujoco-pendulum", set_value("reset_index", value=-1), "row 2: 'reset_index' is negative"),
    ("mujoco-pendulum", set_value("terminated", value=False), "neither or both of terminated"),
    ("mujoco-pendulum", set_value("final_observation", value=[1.0]), "is not 4 wide"),
    ("mujoco-pendulum", set_value("rewards", 0, value=0.5), "'train' does not describe the files"),
    ("mujoco-pendulum", lambda rows: rows.pop(), "'train' does not describe the files"),
    ("metaworld-reach", set_value("success", value=[True]), "'success' has not one value a step"),
    (
        "babyai-go-to-obj",
        set_value("discrete_actions", 0, value=7),
        r"row 2: 'discrete_actions' is outside \[0, 7\)",
    ),
    ("atari-pong", set_value("frames", 5, value=b"short"), "row 2: a frame of 'frames'"),
    ("atari-pong", set_value("final_observation", value=b""), "row 2: 'final_observation'"),
]


@pytest.mark.parametrize(("task", "change", "problem"), SPOILED)
def test_a_wrong_value_is_named(dataset: Path, task: str, change, problem: str) -> None:
    spoil(dataset, task, change)
    lines = find_problems(dataset)
    assert len(lines) >= 1
    assert all(str(dataset / task) in line for line in lines)
    with pytest.raises(AssertionError, match=problem):
        raise AssertionError(lines)


def first_of_test(dataset: Path) -> dict:
    table = pa.parquet.read_table(dataset / "mujoco-pendulum/test-00000-of-00001.parquet")
    return table.to_pylist()[0]


def test_an_episode_in_both_splits_is_found(dataset: Path) -> None:
    leaked = first_of_test(dataset)
    spoil(dataset, "mujoco-pendulum", lambda rows: rows.append(leaked))
    assert any("its content is in the t" in line for line in find_problems(dataset))


@pytest.mark.parametrize("task", ["mujoco-pendulum", "metaworld-reach", "babyai-go-to-obj"])
def test_an_observation_that_the_environment_does_not_show_is_found(
    dataset: Path, task: str
) -> None:
    observations = "discrete_observations" if "babyai" in task else "continuous_observations"

    def swap(rows: list[dict]) -> None:
        for row in rows:
            first, second, *rest = row[observations]
            row[observations] = [second, first, *rest]

    for folder in dataset.iterdir():
        if folder.is_dir() and folder.name != task:
            shutil.rmtree(folder)
    spoil(dataset, task, swap)
    assert find_problems(dataset) == []
    lines = find_problems(dataset, replay=6)
    assert any(f"replayed, '{observations}' differs at step 0" in line for line in lines)


def test_files_are_checked_against_the_manifest(dataset: Path) -> None:
    folder = dataset / "mujoco-pendulum"
    (folder / "extra.parquet").write_bytes(b"")
    (folder / "test-00000-of-00001.parquet").unlink()
    path = dataset / "atari-pong/train-00000-of-00001.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    (dataset / "metaworld-reach/statistics.json").unlink()
    (dataset / "README.md").unlink()
    lines = "\n".join(find_problems(dataset))
    assert f"{folder / 'extra.parquet'}: not in the manifest" in lines
    assert f"{folder / 'test-00000-of-00001.parquet'}: missing" in lines
    assert f"{path}: its checksum is not the manifest's" in lines
    assert "statistics.json' does not exist" in lines
    assert f"{dataset / 'README.md'}: missing" in lines


def test_a_manifest_of_something_else_is_found(dataset: Path) -> None:
    content = read_json(dataset / "mujoco-pendulum/manifest.json")
    write_json(dataset / "mujoco-pendulum/manifest.json", {**content, "task": "mujoco-ant"})
    write_json(dataset / "atari-pong/manifest.json", {"files": []})
    lines = "\n".join(find_problems(dataset))
    assert "mujoco-pendulum/manifest.json: is about 'mujoco-ant'" in lines
    assert "atari-pong/manifest.json': 'task' is missing" in lines


def test_the_program_prints_a_line_a_problem_and_exits_with_2(dataset: Path) -> None:
    def program() -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "dataset_builder.validate", str(dataset), "--replay", "1"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    shutil.rmtree(dataset / "atari-pong")
    shutil.rmtree(dataset / "babyai-go-to-obj")
    assert program().returncode == 0
    content = json.loads((dataset / "mujoco-pendulum/manifest.json").read_text())
    content["files"][0]["file"] = "../outside"
    write_json(dataset / "mujoco-pendulum/manifest.json", content)
    done = program()
    assert done.returncode == 2
    assert "mujoco-pendulum/manifest.json': 'files.0.file' names no file" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_without_a_dataset_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no dataset"):
        find_problems(tmp_path)
