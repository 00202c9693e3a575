"""What is shown of a dataset is what is in it."""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from stages import error_line

from dataset_builder.explore import episodes, explore, overview, shards
from dataset_builder.vision.images import encode_png
from pipeline.domains import get_domain
from pipeline.errors import UserError
from pipeline.schema import arrow_schema, to_table
from pipeline.shards import write_shard
from pipeline.tasks import get_task
from pipeline.types import Episode

STEPS = 5


def episode(task: str, number: int) -> Episode:
    """An episode whose return is its number."""
    rng = np.random.default_rng(number)
    domain = task.partition("-")[0]
    rows = STEPS + 1
    observations = {
        "mujoco": {"continuous_observations": rng.normal(size=(rows, 4)).astype(np.float32)},
        "atari": {"frames": np.full((rows, 84, 84), number, np.uint8)},
        "babyai": {
            "discrete_observations": np.tile([0, *[1, 0, 0] * 49], (rows, 1)).astype(np.uint8),
            "text_observations": np.array(["go to the red ball"] * rows, dtype=object),
        },
    }[domain]
    continuous = rng.normal(size=(STEPS, 1)).astype(np.float32)
    return Episode(
        task,
        observations,
        continuous if domain == "mujoco" else rng.integers(0, 3, STEPS),
        np.full(STEPS, number / STEPS, np.float32),
        terminated=True,
        truncated=False,
        seed=number,
        reset_index=0,
    )


@pytest.fixture
def dataset(tmp_path):
    for task in ("mujoco-pendulum", "atari-pong", "babyai-go-to-local"):
        modality = get_task(task).modality
        for name, numbers in (
            ("train-00000-of-00002", range(3)),
            ("train-00001-of-00002", range(3, 7)),
            ("test-00000-of-00001", range(2)),
        ):
            played = to_table(modality, [episode(task, number) for number in numbers], "us", "0")
            write_shard(tmp_path / task / f"{name}.parquet", played.schema, [played])
    picture = {"bytes": encode_png(np.zeros((30, 30, 3), np.uint8)), "path": "a.png"}
    rows = [{"images": picture, "text": f"Picture {k}."} for k in range(3)]
    for name, domain in (("pictures", "vision"), ("papers", "text")):
        table = pa.Table.from_pylist(rows, schema=arrow_schema(get_domain(domain).modality))
        write_shard(tmp_path / name / "train-00000-of-00001.parquet", table.schema, [table])
    return tmp_path


def cells(table) -> list[list[str]]:
    return list(
        zip(*([str(cell) for cell in column.cells] for column in table.columns), strict=True)
    )


def test_every_task_has_its_numbers(dataset):
    lines = cells(overview(dataset, ["mujoco-pendulum", "papers"]))
    numbers = ("7", "35", "3.00", "2.00", "0.00", "6.00")
    assert lines[0][:-1] == ("mujoco-pendulum", "train", *numbers)
    assert lines[2][:-1] == ("papers", "train", "3", "", "", "", "", "")
    assert lines[3][2] == "0"


def test_an_episode_is_found_again(dataset):
    places = episodes(shards(dataset, "atari-pong", "train"))
    assert [place.score for place in places] == pytest.approx(range(7))
    assert [int(place.read()["frames"][0, 0, 0]) for place in places] == list(range(7))


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("mujoco-pendulum", ["mujoco-pendulum.png"]),
        ("atari-pong", ["atari-pong.png", "atari-pong.gif"]),
        ("babyai-go-to-local", ["babyai-go-to-local.png", "babyai-go-to-local.gif"]),
        ("pictures", ["pictures.png"]),
        ("papers", []),
    ],
)
def test_a_task_has_its_tables_and_pictures(dataset, tmp_path, capsys, task, names):
    written = explore(dataset, task, "train", tmp_path / "out")
    assert [path.name for path in written] == names
    assert all(Image.open(io.BytesIO(path.read_bytes())).width > 100 for path in written)
    shown = capsys.readouterr().out
    assert task in shown
    assert ("Picture 2." in shown) == (task == "papers")


def test_the_film_shows_the_episode_of_the_median_return(dataset, tmp_path):
    _, film = explore(dataset, "atari-pong", "train", tmp_path / "out")
    assert np.asarray(Image.open(film).convert("L")).mean() == 3


def test_only_its_own_pictures_are_replaced(dataset, tmp_path):
    for _ in range(2):
        explore(dataset, "pictures", "train", tmp_path / "out")
    mine = tmp_path / "out/pictures.png"
    Image.new("RGB", (9, 9)).save(mine)
    before = mine.read_bytes()
    with pytest.raises(UserError, match=r"pictures\.png' was not made by this command"):
        explore(dataset, "pictures", "train", tmp_path / "out")
    assert mine.read_bytes() == before


def test_what_is_not_there_is_one_line(dataset, tmp_path):
    with pytest.raises(UserError, match="did you mean 'atari-pong'"):
        explore(dataset, "atari-pnog", "train", tmp_path)
    with pytest.raises(UserError, match="no rows in the split 'test'"):
        explore(dataset, "papers", "test", tmp_path)
    assert "nothing" in error_line("dataset_builder.explore", str(tmp_path / "nothing"))
