"""Statistics that are gathered piece by piece are those of the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import make_episode, make_table

from dataset_builder.statistics import EpisodeStatistics, Moments


@given(
    st.lists(st.lists(st.integers(-100, 100), max_size=7), min_size=1, max_size=6),
    st.integers(-1000, 1000),
)
def test_moments_do_not_depend_on_the_pieces(pieces: list[list[int]], shift: int) -> None:
    moments = Moments()
    for piece in pieces:
        moments.add(np.array(piece, np.float32) + shift)
    whole = np.concatenate([np.array(piece, float) for piece in pieces]) + shift
    if not len(whole):
        assert moments.summary() == {}
        return
    expected = whole.mean(), whole.std(), whole.min(), whole.max()
    found = [moments.summary()[name] for name in ("mean", "std", "min", "max")]
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_each_dimension_has_its_own_numbers() -> None:
    episodes = [make_episode(steps=steps, seed=steps) for steps in (1, 6, 3)]
    seen = EpisodeStatistics()
    for episode in episodes:
        seen.add(make_table(episode))
    summary = seen.summary()
    rows = np.concatenate([e.observations["continuous_observations"][:-1] for e in episodes])
    np.testing.assert_allclose(summary["observations"]["mean"], rows.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(summary["observations"]["std"], rows.std(axis=0), atol=1e-6)
    returns = [episode.score for episode in episodes]
    assert summary["returns"]["mean"] == pytest.approx(np.mean(returns))
    assert summary["lengths"]["max"] == 6


def test_a_success_rate_counts_episodes() -> None:
    """One of three episodes succeeds, in two of its steps."""
    seen = EpisodeStatistics()
    for number, success in enumerate(([0, 1, 1, 0], [0, 0], [0, 0, 0])):
        info = {"success": np.array(success, bool)}
        steps = len(success)
        seen.add(make_table(make_episode("metaworld-reach", steps, number, info=info)))
    summary = seen.summary()
    assert summary["success_rate"] == pytest.approx(1 / 3)
    assert (summary["episodes"], summary["steps"]) == (3, 9)
    assert summary["lengths"]["mean"] == 3
