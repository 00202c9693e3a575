from pathlib import Path

import datasets
import numpy as np
import pytest
import yaml
from stages import contents, play_at_random, run_build, run_collect

from dataset_builder import build
from pipeline import schema
from pipeline.domains.text import DOMAIN as TEXT
from pipeline.errors import UserError
from pipeline.shards import read_rows, write_shard
from pipeline.stage import read_json, write_json
from pipeline.tasks import get_task

ENVIRONMENTS = ("mujoco", "metaworld", "babyai", "atari")
DATASET = Path("artifacts/dataset")
CONFIGURATIONS = ("mujoco-pendulum", "metaworld-reach", "babyai-go-to-obj", "atari-pong")
CORPUS = Path("artifacts/corpora/text/notes")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with collected episodes of every domain and a dataset built from them."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        play_at_random(patch)
        for name in ENVIRONMENTS:
            run_collect(name)
        run_build(*ENVIRONMENTS)
    return folder


@pytest.fixture(autouse=True)
def there(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", project / "cache")


def rows_of(folder: Path, pattern: str = "*") -> list[dict]:
    return [row for path in sorted(folder.glob(f"{pattern}.parquet")) for row in read_rows(path)]


def keys_of(rows: list[dict]) -> list[tuple[int, int]]:
    return [(row["seed"], row["reset_index"]) for row in rows]


def counts(task: str) -> dict[str, int]:
    """Split -> rows in its files."""
    return {split: len(rows_of(DATASET / task, f"{split}-*")) for split in ("train", "test")}


@pytest.mark.parametrize("task", CONFIGURATIONS)
def test_every_episode_is_in_one_split(task: str) -> None:
    collected = rows_of(Path("artifacts/episodes") / task.split("-")[0] / task)
    train, test = rows_of(DATASET / task, "train-*"), rows_of(DATASET / task, "test-*")
    assert train
    assert test
    assert sorted(keys_of(train) + keys_of(test)) == sorted(keys_of(collected))
    by_key = {(row["seed"], row["reset_index"]): row for row in collected}
    for row in train + test:
        for name, value in by_key[row["seed"], row["reset_index"]].items():
            np.testing.assert_array_equal(row[name], value)


@pytest.mark.parametrize("task", CONFIGURATIONS)
def test_datasets_loads_both_splits_streaming_or_not(task: str, tmp_path: Path) -> None:
    whole = datasets.load_dataset(str(DATASET), task, cache_dir=str(tmp_path))
    stream = datasets.load_dataset(str(DATASET), task, streaming=True)
    assert {split: len(rows) for split, rows in whole.items()} == counts(task)
    assert sum(counts(task).values()) == 12
    columns = schema.columns(get_task(task).modality)
    for split in ("train", "test"):
        assert list(whole[split].features) == list(columns)
        arrow = whole[split].features.arrow_schema
        assert dict(zip(arrow.names, arrow.types, strict=True)) == columns
        first, *_ = rows_of(DATASET / task, f"{split}-*")
        for row in (whole[split][0], next(iter(stream[split]))):
            assert (row["seed"], row["rewards"]) == (first["seed"], first["rewards"].tolist())


def test_a_rewritten_dataset_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    def seeds() -> list[int]:
        loaded = datasets.load_dataset(str(DATASET), "mujoco-pendulum", cache_dir=str(tmp_path))
        return loaded["train"]["seed"][:]

    before = seeds()
    with pytest.MonkeyPatch.context() as patch:
        play_at_random(patch)
        run_collect("mujoco", seed=4)
        run_build(*ENVIRONMENTS)
        assert set(seeds()).isdisjoint(before)
        run_collect("mujoco")
        run_build(*ENVIRONMENTS)
    assert seeds() == before


def test_statistics_are_those_of_the_rows() -> None:
    for task in CONFIGURATIONS:
        statistics = read_json(DATASET / task / "statistics.json")["train"]
        rows = rows_of(DATASET / task, "train-*")
        returns = [float(row["rewards"].sum(dtype=np.float64)) for row in rows]
        lengths = [len(row["rewards"]) for row in rows]
        assert statistics["episodes"] == len(rows)
        assert statistics["steps"] == sum(lengths)
        for name, values in (("returns", returns), ("lengths", lengths)):
            expected = np.mean(values), np.std(values), min(values), max(values)
            found = [statistics[name][key] for key in ("mean", "std", "min", "max")]
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_continuous_columns_have_a_number_a_dimension() -> None:
    statistics = read_json(DATASET / "metaworld-reach/statistics.json")["train"]
    rows = rows_of(DATASET / "metaworld-reach", "train-*")
    for name in ("observations", "actions"):
        values = np.concatenate([row[f"continuous_{name}"] for row in rows]).astype(np.float64)
        np.testing.assert_allclose(statistics[name]["mean"], values.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(statistics[name]["std"], values.std(axis=0), atol=1e-9)
        np.testing.assert_array_equal(statistics[name]["min"], values.min(axis=0))
        np.testing.assert_array_equal(statistics[name]["max"], values.max(axis=0))
    assert statistics["success_rate"] == np.mean([row["success"].any() for row in rows])


def test_the_card_has_a_configuration_a_task() -> None:
    _, header, text = (DATASET / "README.md").read_text().split("---\n", 2)
    configs = yaml.safe_load(header)["configs"]
    assert [config["config_name"] for config in configs] == list(CONFIGURATIONS)
    for config in configs:
        train, test = counts(config["config_name"]).values()
        assert f"| `{config['config_name']}` | {train} | {test} |" in text
        for files in config["data_files"]:
            assert list(DATASET.glob(files["path"]))
    for name in schema.columns(get_task("atari-pong").modality):
        assert f"`{name}`" in text


def test_nothing_is_rewritten_when_nothing_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in DATASET.rglob("*.parquet")}
    run_build(*ENVIRONMENTS)
    assert {path: path.stat().st_mtime_ns for path in DATASET.rglob("*.parquet")} == before
    play_at_random(monkeypatch)
    run_collect("mujoco", collect={"episodes": 18, "slots": 3, "episodes_per_slot": 2})
    run_build(*ENVIRONMENTS)
    changed = {
        path.parent.name
        for path in DATASET.rglob("*.parquet")
        if path.stat().st_mtime_ns != before.get(path)
    }
    assert changed == {"mujoco-pendulum"}
    run_collect("mujoco")
    run_build(*ENVIRONMENTS)


def test_a_byte_that_changed_on_either_side_builds_the_configuration_again() -> None:
    before = contents(DATASET)
    built = next((DATASET / "mujoco-pendulum").glob("train-*.parquet"))
    data = bytearray(built.read_bytes())
    data[len(data) // 2] ^= 1
    built.write_bytes(data)
    run_build(*ENVIRONMENTS)
    assert contents(DATASET) == before


def test_what_the_profile_no_longer_has_is_removed() -> None:
    before = contents(DATASET)
    (DATASET / ".atari-pong.x.part").mkdir()
    metrics = run_build("mujoco", "babyai")
    folders = {path.name for path in DATASET.iterdir() if path.is_dir()}
    assert folders == {"mujoco-pendulum", "babyai-go-to-obj"}
    assert metrics["tasks"] == 2
    run_build(*ENVIRONMENTS)
    assert contents(DATASET) == before


def test_corpora_come_in_as_they_were_split() -> None:
    text = schema.arrow_schema(TEXT.modality)
    splits = {"train": ["one", "two é", "three"], "test": ["four"]}
    for split, texts in splits.items():
        table = [{"text": value} for value in texts]
        tables = [build.pa.Table.from_pylist(table, schema=text)]
        write_shard(CORPUS / f"{split}-00000-of-00001.parquet", text, tables)
    write_json(CORPUS / "report.json", {"settings": {"source": "files:notes"}})
    run_build("mujoco", text=[{"name": "notes", "source": "files:notes"}])
    notes = read_json("artifacts/dataset/notes/statistics.json")
    assert {split: notes[split]["rows"] for split in notes} == {"train": 3, "test": 1}
    for split, texts in splits.items():
        assert [row["text"] for row in rows_of(DATASET / "notes", f"{split}-*")] == texts
        stream = datasets.load_dataset(str(DATASET), "notes", split=split, streaming=True)
        assert [row["text"] for row in stream] == texts
    assert "| `notes` | text | `files:notes` | 3 | 1 |" in (DATASET / "README.md").read_text()
    run_build(*ENVIRONMENTS)


def test_a_corpus_that_was_not_built_is_named() -> None:
    with pytest.raises(UserError, match=r"report\.json' does not exist"):
        run_build("mujoco", text=[{"name": "absent", "source": "files:x"}])


def test_a_profile_without_anything_is_told() -> None:
    with pytest.raises(UserError, match="neither tasks nor corpora"):
        run_build()


def test_a_single_episode_goes_to_the_train_split(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    play_at_random(monkeypatch)
    run_collect("mujoco", collect={"episodes": 1, "slots": 3, "episodes_per_slot": 1})
    assert run_build("mujoco")["rows"] == 1
    for streaming in (False, True):
        cache = None if streaming else str(tmp_path / "cache")
        loaded = datasets.load_dataset(
            str(DATASET), "mujoco-pendulum", streaming=streaming, cache_dir=cache
        )
        assert {split: len(list(rows)) for split, rows in loaded.items()} == {"train": 1}
