from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from episodes import make_episode
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import schema, shards
from pipeline.domains import atari, mujoco, text
from pipeline.errors import UserError

SCHEMA = schema.arrow_schema(text.DOMAIN.modality)


def table(texts: list[str]) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.string())}, schema=SCHEMA)


def texts_of(paths: list[Path]) -> list[str]:
    return [row["text"] for path in paths for row in shards.read_rows(path)]


@given(cuts=st.lists(st.integers(0, 40), max_size=6))
@settings(max_examples=20, deadline=None)
def test_bytes_depend_on_the_rows_alone(cuts: list[int], tmp_path_factory) -> None:
    texts = [f"document {k} " * k for k in range(40)]
    edges = [0, *sorted(cuts), 40]
    pieces = [table(texts[a:b]) for a, b in pairwise(edges)]
    folder = tmp_path_factory.mktemp("shards")
    whole, cut = folder / "whole.parquet", folder / "cut.parquet"
    assert shards.write_shard(whole, SCHEMA, [table(texts)])["rows"] == 40
    shards.write_shard(cut, SCHEMA, iter(pieces))
    assert whole.read_bytes() == cut.read_bytes()


def test_row_groups_are_small_but_hold_whole_episodes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shards, "ROW_GROUP_BYTES", 100_000)
    episodes = [make_episode("atari", steps, steps) for steps in (5, 5, 30, 5, 5)]
    rows = schema.to_table(atari.MODALITY, episodes, "who", "")
    shards.write_shard(tmp_path / "a.parquet", rows.schema, [rows])
    file = pq.ParquetFile(tmp_path / "a.parquet")
    groups = [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)]
    assert groups == [2, 1, 2]


def test_frames_of_a_moving_scene_take_little_space(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    episode = make_episode("atari", 300)
    tiles = rng.integers(0, 256, (12, 12), np.uint8)
    episode.observations["frames"][:] = np.kron(tiles, np.ones((7, 7), np.uint8))
    for t, frame in enumerate(episode.observations["frames"]):
        frame[t % 80 : t % 80 + 3, 40:44] = rng.integers(0, 256, (3, 4))
        for lane in range(0, 84, 10):
            frame[lane : lane + 4] = np.roll(frame[lane : lane + 4], t * (lane // 10 % 3), axis=1)
    rows = schema.to_table(atari.MODALITY, [episode], "who", "")
    size = shards.write_shard(tmp_path / "a.parquet", rows.schema, [rows])["bytes"]
    (read,) = shards.read_rows(tmp_path / "a.parquet")
    np.testing.assert_array_equal(read["frames"], episode.observations["frames"][:-1])
    assert size < 100 * 300  # it is 30 % more at zstd's level 3


def test_numbers_that_differ_are_stored_without_a_dictionary(tmp_path: Path) -> None:
    rows = schema.to_table(mujoco.MODALITY, [make_episode("mujoco", 400, 0)], "who", "")
    shards.write_shard(tmp_path / "a.parquet", rows.schema, [rows])
    group = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0)
    columns = {group.column(k).path_in_schema: group.column(k) for k in range(group.num_columns)}
    numbers = columns["continuous_observations.list.element.list.element"]
    assert not numbers.has_dictionary_page
    assert columns["policy"].has_dictionary_page


@pytest.mark.parametrize(("count", "limit"), [(0, 1000), (1, 1000), (50, 1), (50, 2000)])
def test_files_have_the_names_of_the_hub_and_all_rows(
    tmp_path: Path, monkeypatch, count: int, limit: int
) -> None:
    monkeypatch.setattr(shards, "ROW_GROUP_BYTES", 500)
    texts = [f"{k} " * 60 for k in range(count)]
    paths = shards.write_files(tmp_path, "train", SCHEMA, [table(texts)], file_bytes=limit)
    n = len(paths)
    assert [path.name for path in paths] == [f"train-{k:05d}-of-{n:05d}.parquet" for k in range(n)]
    assert sorted(tmp_path.iterdir()) == paths
    assert texts_of(paths) == texts
    assert n == count if count < 50 else n > 1
    assert all(path.stat().st_size >= limit for path in paths[:-1])


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def stopped():
        yield table(["one"])
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        shards.write_shard(tmp_path / "a.parquet", SCHEMA, stopped())
    assert not (tmp_path / "a.parquet").exists()


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(UserError, match=r"a\.parquet' does not exist"):
        list(shards.read_tables(path))
    shards.write_shard(path, SCHEMA, [table([f"{k} é" * 1000 for k in range(100)])])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"a\.parquet' is truncated"):
        list(shards.read_tables(path))
    path.write_bytes(whole[:8] + b"\xff" * 64 + whole[72:])
    with pytest.raises(UserError, match=r"a\.parquet' is damaged"):
        list(shards.read_tables(path))
