"""Shards become flat arrays; what is missing or broken is one line."""

import io
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.errors import UserError
from pipeline.frames import stack
from pipeline.manifest import file_record
from pipeline.stage import write_json
from trainer.feed.data import fingerprint, load
from trainer.feed.tokenizer import tokenise, train_tokenizer
from trainer.places import dataset_folder, model_folder


def test_arrays_are_the_episodes_one_after_the_other(dataset, episodes, tmp_path):
    for task, rows in episodes.items():
        data = load(dataset, task, "train", tmp_path)
        assert data.arrays["offsets"].tolist() == [0, 5, 16, 17, 24]
        for name in ("rewards", "actions"):
            expected = np.concatenate([getattr(episode, name) for episode in rows])
            np.testing.assert_array_equal(data.arrays[name], expected)
        if task == "atari-pong":
            continue
        column = next(name for name in rows[0].observations if name != "text_observations")
        expected = np.concatenate([episode.observations[column][:-1] for episode in rows])
        np.testing.assert_array_equal(data.arrays["observations"], expected)


def test_missions_are_told_apart_at_each_step(dataset, episodes, tmp_path):
    data = load(dataset, "babyai-go-to-obj", "train", tmp_path)
    told = [data.strings[k] for k in data.arrays["missions"]]
    rows = episodes["babyai-go-to-obj"]
    assert told == [text for row in rows for text in row.observations["text_observations"][:-1]]


def test_published_stacks_give_the_frames_they_show(tmp_path):
    rng = np.random.default_rng(0)
    older = rng.integers(0, 256, (3, 84, 84)).astype(np.uint8)
    newest = rng.integers(0, 256, (6, 84, 84)).astype(np.uint8)
    shown = np.concatenate([older, newest])
    images = []
    for t in range(6):
        file = io.BytesIO()
        Image.fromarray(np.moveaxis(shown[t : t + 4], 0, -1)).save(file, "PNG")
        images.append({"bytes": file.getvalue(), "path": None})
    table = pa.table(
        {
            "image_observations": [images],
            "discrete_actions": [[0, 1, 2, 3, 4, 5]],
            "rewards": [[0.0] * 6],
        }
    )
    (tmp_path / "atari-pong").mkdir()
    pq.write_table(table, tmp_path / "atari-pong" / "train-00000-of-00001.parquet")
    data = load(tmp_path, "atari-pong", "train", tmp_path / "cache")
    assert len(data.arrays["frames"]) == 9
    np.testing.assert_array_equal(data.arrays["frames"][0:9], shown)


def test_our_frames_are_stored_behind_the_older_ones_of_their_first_stack(
    dataset, episodes, tmp_path
):
    data = load(dataset, "atari-pong", "train", tmp_path)
    offset = 0
    for episode in episodes["atari-pong"]:
        rows = data.arrays["frames"][offset : offset + len(episode) + 3]
        expected = stack(episode.observations["frames"][:-1])
        windows = np.lib.stride_tricks.sliding_window_view(rows, 4, axis=0)
        np.testing.assert_array_equal(np.moveaxis(windows, -1, 1), expected)
        offset += len(rows)
    assert offset == len(data.arrays["frames"])


def test_arrays_are_decoded_once_and_anew_when_the_shards_change(dataset, tmp_path):
    root, cache = tmp_path / "data", tmp_path / "cache"
    shutil.copytree(dataset / "mujoco-pendulum", root / "mujoco-pendulum")
    load(root, "mujoco-pendulum", "train", cache)
    made = (cache / "mujoco-pendulum-train" / "rewards.npy").stat().st_mtime_ns
    before = fingerprint(root, "mujoco-pendulum", "train")
    load(root, "mujoco-pendulum", "train", cache)
    assert (cache / "mujoco-pendulum-train" / "rewards.npy").stat().st_mtime_ns == made
    shards = sorted((root / "mujoco-pendulum").glob("train-*"))
    shutil.copy(shards[1], shards[0])
    assert fingerprint(root, "mujoco-pendulum", "train") != before
    assert load(root, "mujoco-pendulum", "train", cache).steps == 16


DOCUMENTS = ["The bird 1 sings.", "The bird 2 sings.", "A tree."] * 20


def write_documents(root: Path, texts: list[str]) -> Path:
    path = root / "notes" / "train-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": texts}), path)
    return root


@pytest.mark.parametrize(
    "change",
    [
        lambda texts: ["The bird 3 sings.", *texts[1:]],
        lambda texts: [texts[1], texts[0], *texts[2:]],
        lambda texts: [*texts[:30], "A tres.", *texts[31:]],
        lambda texts: texts[::-1],
    ],
)
def test_a_change_that_keeps_every_length_and_extreme_is_a_change(tmp_path, change):
    before = fingerprint(write_documents(tmp_path, DOCUMENTS), "notes", "train")
    assert fingerprint(write_documents(tmp_path, DOCUMENTS), "notes", "train") == before
    write_documents(tmp_path, change(DOCUMENTS))
    assert fingerprint(tmp_path, "notes", "train") != before


def test_corpora_keep_their_texts_and_pictures(dataset, tmp_path):
    texts = load(dataset, "notes", "train", tmp_path)
    assert (texts.domain, len(list(texts.texts()))) == ("text", 8)
    pictures = load(dataset, "pictures", "train", tmp_path)
    assert (pictures.domain, list(pictures.texts())[4]) == ("vision", "noise 4")
    assert pictures.image(4).shape == (30, 40, 3)
    assert not np.array_equal(pictures.image(4), pictures.image(0))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("truncate", "truncated"),
        ("column", "has no column 'rewards'"),
        ("uneven", "not as long as"),
        ("nan", "train-00000-of-00002.parquet': 1 of the numbers in 'rewards' are NaN"),
        ("task", "did you mean 'mujoco-pendulum'"),
        ("split", "has no test-"),
    ],
)
def test_a_broken_dataset_is_one_line(dataset, tmp_path, damage, words):
    folder = tmp_path / "mujoco-pendulum"
    shutil.copytree(dataset / "mujoco-pendulum", folder)
    first = folder / "train-00000-of-00002.parquet"
    task, split = "mujoco-pendulum", "train"
    if damage == "truncate":
        first.write_bytes(first.read_bytes()[:-100])
    elif damage == "column":
        pq.write_table(pq.read_table(first).drop_columns(["rewards"]), first)
    elif damage in ("uneven", "nan"):
        table = pq.read_table(first)
        place = table.schema.get_field_index("rewards")
        rows = [[0.0], [0.0]]
        if damage == "nan":
            rows = table.column("rewards").to_pylist()
            rows[1][3] = float("nan")
        rewards = pa.array(rows, table.schema.field(place).type)
        pq.write_table(table.set_column(place, "rewards", rewards), first)
    elif damage == "task":
        task = "mujoco-pendulm"
    else:
        split = "test"
        for path in folder.glob("test-*"):
            path.unlink()
    with pytest.raises(UserError) as error:
        load(tmp_path, task, split, tmp_path / "cache")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_place_that_is_no_folder_is_one_line(monkeypatch):
    for place in ("artifacts/nothing", "/nothing/here", "nothing"):
        with pytest.raises(UserError, match="no dataset folder"):
            dataset_folder(place, ["notes"])
    with pytest.raises(UserError, match="no model folder"):
        model_folder("artifacts/nothing")


def test_a_hub_that_is_out_of_reach_is_one_line_soon(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    start = time.monotonic()
    with pytest.raises(UserError, match="--dataset artifacts/dataset"):
        dataset_folder("nobody/no-such-dataset", ["notes"])
    assert time.monotonic() - start < 20


def test_a_folder_without_a_model_is_one_line(tmp_path: Path):
    with pytest.raises(UserError, match=r"no config\.json"):
        model_folder(tmp_path)


def test_tokens_are_made_once_for_each_tokenizer(dataset, tmp_path):
    data = load(dataset, "notes", "train", tmp_path)
    first, second = (train_tokenizer(data.texts(), size) for size in (300, 262))
    tokens, offsets = tokenise(data, first)
    assert len(offsets) == 9
    assert first.decode(tokens[offsets[2] : offsets[3]]).startswith("note 3: all work")
    assert tokens[offsets[1:] - 1].tolist() == [first.eos_token_id] * 8
    made = {path: path.stat().st_ino for path in data.folder.glob("tokens-*")}
    tokenise(data, first)
    assert {path: path.stat().st_ino for path in data.folder.glob("tokens-*")} == made
    tokenise(data, second)
    assert not made.keys() & set(data.folder.glob("tokens-*"))


def test_files_that_their_manifest_contradicts_are_refused(dataset, tmp_path):
    folder = tmp_path / "mujoco-pendulum"
    shutil.copytree(dataset / "mujoco-pendulum", folder)
    shards = sorted(folder.glob("train-*"))
    write_json(folder / "manifest.json", {"files": [file_record(path) for path in shards]})
    load(tmp_path, "mujoco-pendulum", "train", tmp_path / "cache")
    first, second = (path.read_bytes() for path in shards)
    shards[0].write_bytes(second)
    shards[1].write_bytes(first)
    with pytest.raises(UserError, match=r"train-00000-of-00002.*build the dataset again"):
        load(tmp_path, "mujoco-pendulum", "train", tmp_path / "cache")
    write_json(folder / "manifest.json", {"files": []})
    with pytest.raises(UserError, match="is not in its manifest"):
        load(tmp_path, "mujoco-pendulum", "train", tmp_path / "cache")
