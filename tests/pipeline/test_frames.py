import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import frames, schema
from pipeline.engines import make_envs
from pipeline.tasks import get_task


@given(steps=st.integers(1, 9), count=st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_a_stack_holds_the_last_frames_and_repeats_the_first(steps: int, count: int) -> None:
    episode = np.arange(1, steps + 1)[:, None, None] * np.ones((1, 84, 84), np.uint8)
    stacks = frames.stack(episode.astype(np.uint8), count)
    assert stacks.shape == (steps, count, 84, 84)
    for t in range(steps):
        expected = [1 + max(0, t - back) for back in reversed(range(count))]
        assert stacks[t, :, 0, 0].tolist() == expected


def test_bytes_and_back() -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (3, 84, 84), np.uint8)
    rows = frames.to_arrow(pictures).to_pylist()
    assert [len(row) for row in rows] == [frames.FRAME_BYTES] * 3
    np.testing.assert_array_equal(frames.from_bytes(rows), pictures)


@given(
    starts=st.lists(st.integers(0, 5), min_size=2, max_size=2).map(sorted), rows=st.integers(0, 5)
)
@settings(max_examples=20, deadline=None)
def test_arrow_rows_are_read_in_place(starts: list[int], rows: int) -> None:
    pictures = np.random.default_rng(rows).integers(0, 255, (rows, 84, 84), np.uint8)
    array = frames.to_arrow(pictures)
    start, stop = starts
    found = frames.from_arrow(array[start:stop])
    np.testing.assert_array_equal(found, pictures[start:stop])


@pytest.mark.parametrize("row", [None, b"", b"1" * 7055, b"1" * 7057])
def test_rows_that_are_no_frames_are_refused(row: bytes | None) -> None:
    with pytest.raises(ValueError, match="7056 bytes"):
        frames.from_arrow(pa.array([b"0" * 7056, row], pa.binary()))


@pytest.mark.parametrize("game", ["atari-pong", "atari-breakout"])
def test_stacks_are_those_that_the_environment_shows(game: str) -> None:
    envs = make_envs(get_task(game), [7, 8])
    rng = np.random.default_rng(0)
    shown, kept, observations = [], [], envs.reset()
    for _ in range(400):
        shown.append(observations["image_observations"][0])
        kept.append(schema.keep_observations(observations)["frames"][0])
        step = envs.step(rng.integers(envs.action_space.n, size=2))
        observations = step.observations
        if step.ended[0]:
            np.testing.assert_array_equal(frames.stack(np.array(kept)), np.array(shown))
            shown, kept = [], []
    envs.close()
    np.testing.assert_array_equal(frames.stack(np.array(kept)), np.array(shown))
