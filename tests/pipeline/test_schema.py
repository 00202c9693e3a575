import datasets
import numpy as np
import pyarrow as pa
import pytest
from episodes import TASKS, make_episode
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import schema
from pipeline.domains import get_domain
from pipeline.shards import read_rows, write_shard
from pipeline.types import Modality

LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@pytest.mark.parametrize("domain", TASKS)
@given(lengths=LENGTHS)
@settings(max_examples=10, deadline=None)
def test_episodes_come_back_as_they_were(domain: str, lengths: list[int], tmp_path_factory) -> None:
    episodes = [make_episode(domain, steps, seed) for seed, steps in enumerate(lengths)]
    path = tmp_path_factory.mktemp("shard") / "a.parquet"
    modality = get_domain(domain).modality
    table = schema.to_table(modality, episodes, "who", "c" * 64)
    write_shard(path, schema.arrow_schema(modality), [table])
    rows = list(read_rows(path))
    assert len(rows) == len(episodes)
    for row, episode in zip(rows, episodes, strict=True):
        final = {}
        for name, values in episode.observations.items():
            np.testing.assert_array_equal(row[name], values[:-1])
            assert row[name].dtype == values.dtype
            final[name] = values[-1]
        final.pop("text_observations", None)
        np.testing.assert_array_equal(row["final_observation"], *final.values())
        action = "discrete_actions" if "discrete_actions" in row else "continuous_actions"
        np.testing.assert_array_equal(row[action], episode.actions)
        np.testing.assert_array_equal(row["rewards"], episode.rewards)
        assert (row["seed"], row["reset_index"]) == (episode.seed, episode.reset_index)
        assert (row["policy"], row["policy_checksum"]) == ("who", "c" * 64)
        if domain == "metaworld":
            np.testing.assert_array_equal(row["success"], episode.info["success"])


MODALITIES = {
    **{name: get_domain(name).modality for name in (*TASKS, "text", "vision")},
    "wide": Modality("discrete", "continuous", wide=True),
    "numbers with texts": Modality("continuous", "discrete", missions=True, success=True),
}


@pytest.mark.parametrize("modality", MODALITIES.values(), ids=MODALITIES)
def test_datasets_reads_the_features_that_are_meant(modality: Modality) -> None:
    features = datasets.Features.from_arrow_schema(schema.arrow_schema(modality))
    assert list(features) == list(schema.columns(modality))
    if modality.observation == "vision":
        assert isinstance(features["images"], datasets.Image)
    for name, type in schema.columns(modality).items():
        if name != "images":
            assert pa.schema([features.arrow_schema.field(name)]).field(0).type == type


def test_jat_columns_keep_their_published_types() -> None:
    columns = {name: schema.columns(get_domain(name).modality) for name in TASKS}
    assert columns["mujoco"]["continuous_observations"] == pa.list_(pa.list_(pa.float32()))
    assert columns["metaworld"]["continuous_actions"] == pa.list_(pa.list_(pa.float32()))
    assert columns["babyai"]["text_observations"] == pa.list_(pa.string())
    assert columns["atari"]["discrete_actions"] == pa.list_(pa.int64())
    for domain in TASKS:
        assert columns[domain]["rewards"] == pa.list_(pa.float32())


def test_integers_are_stored_as_narrow_as_they_are() -> None:
    for modality, number in (
        (Modality("discrete", "discrete"), pa.uint8()),
        (Modality("discrete", "discrete", wide=True), pa.int64()),
    ):
        columns = schema.columns(modality)
        assert columns["discrete_observations"] == pa.list_(pa.list_(number))
        assert columns["final_observation"] == pa.list_(number)


def test_atari_keeps_the_newest_frame_of_a_stack() -> None:
    stacks = np.arange(2 * 4 * 84 * 84, dtype=np.uint32).reshape(2, 4, 84, 84)
    kept = schema.keep_observations({"image_observations": stacks})
    np.testing.assert_array_equal(kept["frames"], stacks[:, 3])
