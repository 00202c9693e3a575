"""A corpus is complete, loadable and the same bytes however it was made."""

import json
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from dataset_builder.vision import build, sources
from dataset_builder.vision.build import build_vision
from dataset_builder.vision.images import encode_png
from pipeline.errors import UserError
from pipeline.settings import VisionCorpus

ROOT = Path(__file__).parents[2]


def corpus(**options) -> VisionCorpus:
    settings = {"name": "grid-captions", "source": "grids:captions", "train": 230, "test": 12}
    return VisionCorpus(**{**settings, "image_size": 84, **options})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_corpus_has_its_files_and_loads_as_images(tmp_path):
    report = build_vision(corpus(), 0, tmp_path, workers=1)
    folder = tmp_path / "grid-captions"
    assert sorted(contents(folder)) == [
        *("report.json", "samples.png"),
        *("test-00000-of-00001.parquet", "train-00000-of-00001.parquet"),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["grid-captions"]
    shard = pq.ParquetFile(folder / "train-00000-of-00001.parquet")
    groups = [shard.metadata.row_group(k).num_rows for k in range(shard.num_row_groups)]
    assert groups == [100, 100, 30]
    assert shard.metadata.row_group(0).column(0).compression == "ZSTD"
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 230, "test": 12}
    assert isinstance(loaded["train"].features["images"], datasets.Image)
    assert loaded["train"][0]["images"].size == (84, 84)
    assert len({row["text"] for row in loaded["train"]}) > 200
    assert json.loads((folder / "report.json").read_text()) == report
    assert Image.open(folder / "samples.png").width > 4 * 224


@pytest.fixture
def many_parts(monkeypatch):
    monkeypatch.setattr(sources.GridSource, "part", 50)


@pytest.mark.usefixtures("many_parts")
def test_the_bytes_do_not_depend_on_the_workers(tmp_path, monkeypatch):
    """The parts are made in another order, as by workers that race."""
    build_vision(corpus(), 0, tmp_path / "one", workers=1)

    def shuffled(function, units, **options):
        for unit in reversed(units):
            function(unit)

    monkeypatch.setattr(build, "fan_out", shuffled)
    build_vision(corpus(), 0, tmp_path / "many", workers=4)
    one, many = (contents(tmp_path / name / "grid-captions") for name in ("one", "many"))
    assert one == many


def test_the_seed_changes_the_pictures(tmp_path):
    for seed in (0, 1):
        build_vision(corpus(train=5, test=1), seed, tmp_path / str(seed), workers=1)
    first, second = (contents(tmp_path / name / "grid-captions") for name in "01")
    assert first["train-00000-of-00001.parquet"] != second["train-00000-of-00001.parquet"]


def test_a_finished_corpus_is_left_alone_and_a_changed_one_is_not(tmp_path, monkeypatch):
    build_vision(corpus(train=5, test=1), 0, tmp_path, workers=1)
    before = contents(tmp_path / "grid-captions")
    with monkeypatch.context() as patch:
        patch.setattr(build, "fan_out", lambda *_, **__: pytest.fail("it was built again"))
        build_vision(corpus(train=5, test=1), 0, tmp_path, workers=1)
    (tmp_path / "grid-captions" / "train-00000-of-00001.parquet").write_bytes(b"broken")
    build_vision(corpus(train=5, test=1), 0, tmp_path, workers=1)
    assert contents(tmp_path / "grid-captions") == before
    assert build_vision(corpus(train=6, test=1), 0, tmp_path, workers=1)["train"]["images"] == 6


@pytest.mark.usefixtures("many_parts")
def test_a_stopped_build_leaves_the_old_corpus_and_goes_on_from_its_parts(tmp_path, monkeypatch):
    build_vision(corpus(train=5, test=1), 0, tmp_path, workers=1)
    before = contents(tmp_path / "grid-captions")
    made = []

    def stopping(part):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(part)
        make_part(part)

    make_part = build.make_part
    with monkeypatch.context() as patch:
        patch.setattr(build, "make_part", stopping)
        with pytest.raises(KeyboardInterrupt):
            build_vision(corpus(), 0, tmp_path, workers=1)
    assert contents(tmp_path / "grid-captions") == before
    drawn = []
    example = sources.GridSource.example
    with monkeypatch.context() as patch:
        patch.setattr(
            sources.GridSource, "example", lambda *key: drawn.append(key[1:]) or example(*key)
        )
        build_vision(corpus(), 0, tmp_path, workers=1)
    assert len(drawn) == 230 + 12 - 12 - 50 - 50
    build_vision(corpus(), 0, tmp_path / "afresh", workers=1)
    resumed, afresh = (tmp_path / name for name in ("grid-captions", "afresh/grid-captions"))
    assert contents(resumed) == contents(afresh)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["afresh", "grid-captions"]


def picture(number: int) -> bytes:
    return encode_png(np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8))


def write_folder(folder: Path, rows: list[tuple[int, str]]) -> VisionCorpus:
    folder.mkdir()
    lines = []
    for number, text in rows:
        (folder / f"{number}.png").write_bytes(picture(number))
        lines.append(json.dumps({"file": f"{number}.png", "text": text}))
    lines += [json.dumps({"file": "../captions.jsonl", "text": "x"})] * 10
    lines += ["not json"] * 10
    (folder / "captions.jsonl").write_text("\n".join(lines))
    return VisionCorpus(name="mine", source=f"files:{folder}", train=80, test=20)


def test_what_is_dropped_is_counted_by_reason(tmp_path):
    mine = write_folder(tmp_path / "files", [(k // 2, f"Picture {k // 4}.") for k in range(80)])
    report = build_vision(mine, 0, tmp_path / "out", workers=1)
    train, test = report["train"], report["test"]
    dropped = {**train["dropped"]}
    for reason, count in test["dropped"].items():
        dropped[reason] = dropped.get(reason, 0) + count
    assert dropped["file outside the folder"] == 10
    assert dropped["line is not JSON"] == 10
    assert train["images"] + test["images"] + sum(dropped.values()) == 100
    assert dropped["duplicate"] + dropped["image of the test split"] == 40
    rows = {
        split: pq.read_table(
            tmp_path / "out" / "mine" / f"{split}-00000-of-00001.parquet"
        ).to_pylist()
        for split in ("train", "test")
    }
    pictures = {s: {row["images"]["bytes"] for row in rows[s]} for s in rows}
    assert not pictures["train"] & pictures["test"]
    assert len(pictures["train"] | pictures["test"]) == 40


def test_a_changed_folder_is_built_again(tmp_path):
    mine = write_folder(tmp_path / "files", [(k, f"Picture {k}.") for k in range(30)])
    first = build_vision(mine, 0, tmp_path / "out", workers=1)
    assert build_vision(mine, 0, tmp_path / "out", workers=1) == first
    (tmp_path / "files" / "0.png").write_bytes(picture(99) + b"\0")
    assert build_vision(mine, 0, tmp_path / "out", workers=1) != first


def test_a_folder_without_a_usable_image_is_one_line(tmp_path):
    mine = write_folder(tmp_path / "files", [])
    with pytest.raises(UserError, match="gave no test image"):
        build_vision(mine, 0, tmp_path / "out", workers=1)
    assert not (tmp_path / "out" / "mine").exists()


def stage(folder: Path, *arguments: str, vision: list[dict]) -> subprocess.CompletedProcess:
    params = yaml.safe_load((ROOT / "params" / "paper.yaml").read_text())
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump({**params, "workers": 1, "vision": vision}))
    return subprocess.run(
        [sys.executable, "-m", "dataset_builder.vision.build", "--params", str(path)]
        + ["--output", str(folder / "out"), "--metrics", str(folder / "vision.json"), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )


def test_the_stage_builds_every_corpus_and_writes_its_counts(tmp_path):
    grids = corpus(train=5, test=2).model_dump()
    asked = {**grids, "name": "grid-questions", "source": "grids:questions"}
    done = stage(tmp_path, vision=[grids, asked])
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "vision.json").read_text())
    assert set(metrics) == {"grid-captions", "grid-questions"}
    assert metrics["grid-questions"]["train"]["images"] == 5
    table = pq.read_table(tmp_path / "out" / "grid-questions" / "train-00000-of-00001.parquet")
    assert all(text.startswith("question: ") for text in table["text"].to_pylist())


@pytest.mark.parametrize(
    ("vision", "arguments", "words"),
    [
        ([{"name": "a", "source": "grid:captions", "train": 1, "test": 1}], [], "vision.0.source"),
        ([], ["--corpus", "x"], "no corpus 'x'"),
    ],
)
def test_bad_parameters_are_one_line(tmp_path, vision, arguments, words):
    done = stage(tmp_path, *arguments, vision=vision)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_folder_of_someone_else_is_left_alone(tmp_path):
    build_vision(corpus(train=4, test=2), 0, tmp_path, workers=1)
    build_vision(corpus(train=5, test=2), 0, tmp_path, workers=1)
    folder = tmp_path / "grid-captions"
    (folder / "mine.txt").write_text("mine")
    before = contents(folder)
    with pytest.raises(UserError, match=r"mine\.txt' was not made by this command"):
        build_vision(corpus(train=6, test=2), 0, tmp_path, workers=1)
    (folder / "report.json").unlink()
    del before["report.json"]
    with pytest.raises(UserError, match="was not made by this command"):
        build_vision(corpus(train=6, test=2), 0, tmp_path, workers=1)
    assert contents(folder) == before
