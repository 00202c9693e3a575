"""Which episodes are for training and which for testing."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rows import make_episode, make_table

from dataset_builder.build import choose_test, keys_of, select
from pipeline.shards import write_shard

Key = tuple[int, int]


def choose(keys: list[Key], fraction: float, folder: Path) -> set[Key]:
    columns = {name: [key[k] for key in keys] for k, name in enumerate(("seed", "reset_index"))}
    pq.write_table(pa.table(columns), folder / "keys.parquet")
    return choose_test([folder / "keys.parquet"], fraction)


def test_the_test_split_is_no_run_of_seeds_or_of_resets(tmp_path: Path) -> None:
    """A tenth of 40 slots' 25 episodes: as a draw at random would have it."""
    test = choose([(seed, index) for seed in range(40) for index in range(25)], 0.1, tmp_path)
    assert len(test) == 100
    seeds, indices = (np.array(sorted(column)) for column in zip(*test, strict=True))
    assert abs(seeds.mean() - 19.5) < 4  # three standard errors
    assert abs(indices.mean() - 12) < 2.5
    assert len(set(seeds.tolist())) > 30
    assert len(set(indices.tolist())) > 20


@pytest.mark.parametrize(
    ("count", "fraction", "size"), [(10, 0.1, 1), (10, 0.26, 3), (3, 0.01, 1), (2, 0.99, 1)]
)
def test_both_splits_have_an_episode(
    tmp_path: Path, count: int, fraction: float, size: int
) -> None:
    keys = [(seed, 0) for seed in range(count)]
    assert len(choose(keys, fraction, tmp_path)) == size


def test_more_episodes_move_few_from_one_split_to_the_other(tmp_path: Path) -> None:
    """Twice as many slots: what was for testing mostly still is, or is for training by its hash."""
    few = choose([(seed, 0) for seed in range(200)], 0.2, tmp_path)
    many = choose([(seed, 0) for seed in range(400)], 0.2, tmp_path)
    assert len(few & many) > 0.7 * len(few)


def test_each_split_has_its_own_rows(tmp_path: Path) -> None:
    """Also where a row group has episodes of one split only."""
    paths = []
    for shard in range(2):
        episodes = [make_episode(steps=3, seed=shard, reset_index=index) for index in range(3)]
        paths.append(tmp_path / f"{shard}.parquet")
        write_shard(paths[-1], make_table(*episodes).schema, [make_table(*episodes)])
    test = {(0, 1)}
    rows = {
        wanted: [key for table in select(paths, test, wanted) for key in keys_of(table)]
        for wanted in (True, False)
    }
    assert rows[True] == [(0, 1)]
    assert rows[False] == [(0, 0), (0, 2), (1, 0), (1, 1), (1, 2)]
    (table,) = select(paths, test, wanted=True)
    expected = make_episode(steps=3, seed=0, reset_index=1)
    assert table.column("rewards").to_pylist() == [expected.rewards.tolist()]
