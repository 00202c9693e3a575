"""What is exported is what was stored, as `datasets` reads it in the published layout."""

import io
import shutil
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
import yaml
from datasets import Features, Image, List, Value
from PIL import Image as Pictures
from stages import contents, error_line, play_at_random, run_build, run_collect

from dataset_builder.export import export, published_tables
from dataset_builder.vision.images import encode_png
from pipeline import frames, shards
from pipeline.domains import get_domain
from pipeline.errors import UserError
from pipeline.publication import MARKER
from pipeline.schema import arrow_schema
from pipeline.shards import read_rows, write_shard
from pipeline.stage import write_json
from trainer.feed.data import load

ENVIRONMENTS = ("mujoco", "metaworld", "babyai", "atari")
CORPORA = {"text": "notes", "vision": "pictures"}
FLOATS = List(List(Value("float32")))
CONTINUOUS = {"continuous_observations": FLOATS, "continuous_actions": FLOATS}
DISCRETE = {"discrete_actions": List(Value("int64"))}
REWARDS = {"rewards": List(Value("float32"))}
PUBLISHED = {
    "mujoco-pendulum": {**CONTINUOUS, **REWARDS},
    "metaworld-reach": {**CONTINUOUS, **REWARDS},
    "babyai-go-to-obj": {
        "text_observations": List(Value("string")),
        "discrete_observations": List(List(Value("int64"))),
        **DISCRETE,
        **REWARDS,
    },
    "atari-pong": {"image_observations": List(Image()), **DISCRETE, **REWARDS},
    "notes": {"text": Value("string")},
    "pictures": {"images": Image(), "text": Value("string")},
}


def write_corpora() -> None:
    rng = np.random.default_rng(0)
    for domain, name in CORPORA.items():
        folder = Path("artifacts/corpora") / domain / name
        schema = arrow_schema(get_domain(domain).modality)
        for split, count in (("train", 5), ("test", 2)):
            pixels = rng.integers(0, 256, (count, 30, 40, 3), np.uint8)
            rows = [
                {"text": f"{split} {k} é", "images": {"bytes": encode_png(pixels[k]), "path": None}}
                for k in range(count)
            ]
            table = pa.Table.from_pylist(rows, schema=schema)
            write_shard(folder / f"{split}-00000-of-00001.parquet", schema, [table])
        write_json(folder / "report.json", {"settings": {"source": "made up"}})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with a configuration of every domain; shards of one task have several groups."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(shards, "ROW_GROUP_BYTES", 2**20)
        play_at_random(patch)
        for name in ENVIRONMENTS:
            run_collect(name, collect={"episodes": 4, "slots": 2, "episodes_per_slot": 2})
        write_corpora()
        run_build(
            *ENVIRONMENTS,
            text=[{"name": "notes", "source": "files:notes"}],
            vision=[{"name": "pictures", "source": "files:x", "train": 5, "test": 2}],
        )
    return folder / "artifacts/dataset"


@pytest.fixture(scope="module")
def exported(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("export") / "new"
    export(dataset, target)
    return target


def stored(folder: Path, config: str, split: str) -> list[dict]:
    files = sorted((folder / config).glob(f"{split}-*.parquet"))
    return [row for path in files for row in read_rows(path)]


def loaded(folder: Path, config: str, split: str, cache: Path) -> datasets.Dataset:
    return datasets.load_dataset(str(folder), config, split=split, cache_dir=str(cache))


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("config", list(PUBLISHED))
def test_datasets_reads_what_our_reader_rebuilds(
    dataset: Path, exported: Path, config: str, split: str, tmp_path: Path
) -> None:
    ours, theirs = stored(dataset, config, split), loaded(exported, config, split, tmp_path)
    assert theirs.features == Features(PUBLISHED[config])
    assert len(theirs) == len(ours) > 0
    for mine, row in zip(ours, theirs, strict=True):
        if "frames" in mine:
            stacks = np.stack([np.asarray(picture) for picture in row.pop("image_observations")])
            assert stacks.dtype == np.uint8
            np.testing.assert_array_equal(np.moveaxis(stacks, -1, 1), frames.stack(mine["frames"]))
        if "images" in mine:
            pixels = np.asarray(Pictures.open(io.BytesIO(mine["images"]["bytes"])))
            np.testing.assert_array_equal(np.asarray(row.pop("images")), pixels)
        for name, value in row.items():
            np.testing.assert_array_equal(np.asarray(value), mine[name])


@pytest.mark.parametrize("config", list(PUBLISHED))
def test_files_have_the_published_names_and_stream(
    dataset: Path, exported: Path, config: str
) -> None:
    for split in ("train", "test"):
        assert [path.name for path in (exported / config).glob(f"{split}-*")] == [
            f"{split}-00000-of-00001.parquet"
        ]
        rows = datasets.load_dataset(str(exported), config, split=split, streaming=True)
        assert list(rows.features) == list(PUBLISHED[config])
        assert len(list(rows)) == len(stored(dataset, config, split))


def test_the_pictures_are_rgba_of_84_by_84(exported: Path, tmp_path: Path) -> None:
    (first, *_) = loaded(exported, "atari-pong", "test", tmp_path)["image_observations"][0]
    assert (first.format, first.mode, first.size) == ("PNG", "RGBA", (84, 84))


def test_the_trainer_reads_the_same_frames_from_both(
    dataset: Path, exported: Path, tmp_path: Path
) -> None:
    ours = load(dataset, "atari-pong", "train", tmp_path / "ours").arrays
    theirs = load(exported, "atari-pong", "train", tmp_path / "theirs").arrays
    count = len(ours["frames"])
    np.testing.assert_array_equal(theirs["frames"][0:count], ours["frames"][0:count])
    for name in ("offsets", "rewards", "actions"):
        np.testing.assert_array_equal(theirs[name], ours[name])


def test_a_part_is_the_beginning_of_each_split(dataset: Path, tmp_path: Path) -> None:
    target = tmp_path / "part"
    export(dataset, target, ["atari-pong", "notes"], episodes=2)
    names = [MARKER, "README.md", "atari-pong", "notes"]
    assert sorted(path.name for path in target.iterdir()) == names
    texts = loaded(target, "notes", "train", tmp_path / "cache")["text"][:]
    assert texts == ["train 0 é", "train 1 é"]
    games = loaded(target, "atari-pong", "train", tmp_path / "cache")
    expected = [row["rewards"].tolist() for row in stored(dataset, "atari-pong", "train")[:2]]
    assert games["rewards"][:] == expected
    assert len(stored(target, "notes", "test")) == 2


def test_only_an_earlier_export_is_replaced(dataset: Path, tmp_path: Path) -> None:
    target = tmp_path / "new"
    export(dataset, target, ["notes", "pictures"])
    export(dataset, target, ["notes"])
    assert sorted(path.name for path in target.iterdir()) == [MARKER, "README.md", "notes"]
    before = exported_files(target)
    other = tmp_path / "other"
    other.mkdir()
    export(dataset, other, ["notes"])  # an empty folder may be taken as well
    assert exported_files(other) == before
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "README.md").write_text(readme := (other / "README.md").read_text())
    with pytest.raises(UserError, match="is not empty and nothing was published there"):
        export(dataset, mine)
    assert contents(mine) == {"README.md": readme.encode()}
    for overlapping in (dataset, dataset / "new", dataset.parent):
        with pytest.raises(UserError, match="overlaps"):
            export(dataset, overlapping)


def exported_files(target: Path) -> dict[str, bytes]:
    files = contents(target)
    assert files.pop(MARKER)
    return files


def test_a_new_export_changes_the_header(dataset: Path, tmp_path: Path) -> None:
    headers = []
    for episodes in (1, 2):
        export(dataset, tmp_path / "new", ["notes"], episodes)
        _, header, _ = (tmp_path / "new/README.md").read_text().split("---\n", 2)
        headers.append(yaml.safe_load(header)["configs"][0]["description"])
    assert headers[0] != headers[1]


def test_a_damaged_shard_leaves_the_earlier_export_as_it_was(dataset: Path, tmp_path: Path) -> None:
    damaged, target = tmp_path / "damaged", tmp_path / "new"
    shutil.copytree(dataset, damaged)
    export(dataset, target, ["notes"])
    before = contents(target)
    (shard,) = (damaged / "atari-pong").glob("train-*")
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"atari-pong/train-.*is truncated"):
        export(damaged, target)
    shard.unlink()
    with pytest.raises(UserError, match=r"atari-pong/train-.*does not exist"):
        export(damaged, target)
    assert contents(target) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged", "new"]


def test_rows_that_are_no_frames_are_named(dataset: Path, tmp_path: Path) -> None:
    (shard,) = (dataset / "atari-pong").glob("test-*")
    table = next(shards.read_tables(shard)).slice(0, 1)
    position = table.column_names.index("frames")
    short = pa.array([[b"0" * 7055]], pa.list_(pa.binary()))
    path = tmp_path / "short.parquet"
    write_shard(
        path, table.schema, [table.set_column(position, "frames", short).cast(table.schema)]
    )
    with pytest.raises(UserError, match=r"short\.parquet' is no shard, .* not have 7056"):
        list(published_tables([path]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "new"], "holds no dataset"),
        ([".", "new", "--config", "atari-pnog"], "did you mean 'atari-pong'?"),
        ([".", "."], "overlaps"),
    ],
)
def test_bad_input_is_one_line(dataset: Path, arguments: list[str], words: str) -> None:
    folder, target, *more = arguments
    paths = [str(dataset / folder), str(dataset.parent / target if target == "new" else dataset)]
    assert words in error_line("dataset_builder.export", *paths, *more)
    assert not (dataset.parent / "new").exists()


def test_rows_are_converted_a_row_group_at_a_time(dataset: Path) -> None:
    (shard,) = (dataset / "atari-pong").glob("train-*")
    tables = published_tables([shard] * 10**6)
    assert len(next(tables)) < len(stored(dataset, "atari-pong", "train"))
