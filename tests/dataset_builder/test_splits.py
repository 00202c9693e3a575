"""Which rows are for training and which for testing: their content says it."""

import dataclasses
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import make_episode, make_table

from dataset_builder import splits
from dataset_builder.build import episode_digests, select
from pipeline.shards import write_shard
from pipeline.tasks import get_task
from pipeline.types import Modality

MODALITY = get_task("mujoco-pendulum").modality


def digest_of(*episodes) -> list[splits.Digest]:
    return splits.digests(make_table(*episodes), MODALITY)


def random_digests(count: int, seed: int = 0) -> list[splits.Digest]:
    rng = np.random.default_rng(seed)
    return [rng.bytes(splits.SIZE) for _ in range(count)]


def test_the_same_play_is_the_same_content_whoever_made_it() -> None:
    one = make_episode(seed=1)
    copy = dataclasses.replace(one, seed=7, reset_index=3)
    assert digest_of(one) == digest_of(copy)
    other_policy = make_table(one).set_column(
        make_table(one).column_names.index("policy"), "policy", pa.array(["another"])
    )
    assert splits.digests(other_policy, MODALITY) == digest_of(one)


@pytest.mark.parametrize("part", ["observations", "actions", "rewards"])
def test_one_number_that_differs_is_another_content(part: str) -> None:
    one = make_episode(seed=1)
    if part == "observations":
        changed = one.observations["continuous_observations"].copy()
        changed[1, 2] += 1e-6
        other = dataclasses.replace(one, observations={"continuous_observations": changed})
    else:
        changed = getattr(one, part).copy()
        changed[2] += 1e-6
        other = dataclasses.replace(one, **{part: changed})
    assert digest_of(one) != digest_of(other)


def test_documents_are_their_texts_and_pictures() -> None:
    texts = pa.table({"text": ["a", "b", "a"]})
    one, two, three = splits.digests(texts, Modality("text"))
    assert one == three != two
    images = [
        {"bytes": b"1", "path": "x"},
        {"bytes": b"2", "path": "x"},
        {"bytes": b"1", "path": "y"},
    ]
    pictures = pa.table({"images": images, "text": ["a", "a", "a"]})
    one, two, three = splits.digests(pictures, Modality("vision"))
    assert one == three != two


@given(st.integers(2, 300), st.floats(0.01, 0.99), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_more_data_moves_nothing_and_no_split_is_empty(
    count: int, fraction: float, seed: int
) -> None:
    found = random_digests(count, seed)
    test = splits.held_out(found, fraction)
    assert 0 < len(test) < count
    assert splits.held_out(reversed(found * 2), fraction) == test
    below = {digest for digest in found if splits.position(digest) < fraction}
    if 0 < len(below) < count:  # else one has moved over so that no split is empty
        more = splits.held_out([*found, *random_digests(100, seed + 1000)], fraction)
        assert more & set(found) == test


def test_about_the_fraction_is_held_out() -> None:
    assert abs(len(splits.held_out(random_digests(4000), 0.1)) - 400) < 80  # four standard errors


@pytest.mark.parametrize("count", [0, 1])
def test_what_is_alone_is_for_training(count: int) -> None:
    assert splits.held_out(random_digests(count), 0.99) == set()


def test_each_split_has_its_own_rows(tmp_path: Path) -> None:
    """Also where a row group has episodes of one split only, and where episodes are copies."""
    paths = []
    for shard in range(2):
        episodes = [make_episode(steps=3, seed=shard, reset_index=index) for index in range(3)]
        episodes.append(dataclasses.replace(make_episode(steps=3, reset_index=1), seed=50 + shard))
        paths.append(tmp_path / f"{shard}.parquet")
        write_shard(paths[-1], make_table(*episodes).schema, map(make_table, episodes))
    found = [episode_digests(path, MODALITY) for path in paths]
    assert len(set(chain(*found))) == 6
    test = {found[0][1]}
    rows = {
        wanted: [
            (row["seed"], row["reset_index"])
            for table in select(paths, found, test, wanted)
            for row in table.to_pylist()
        ]
        for wanted in (True, False)
    }
    assert rows[True] == [(0, 1), (50, 1), (51, 1)]
    assert rows[False] == [(0, 0), (0, 2), (1, 0), (1, 1), (1, 2)]
    (first, *_) = select(paths, found, test, wanted=True)
    expected = make_episode(steps=3, seed=0, reset_index=1)
    assert first.column("rewards").to_pylist()[0] == expected.rewards.tolist()
