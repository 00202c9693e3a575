import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.appo.curve import SCORED_ON, Curve, read_curve
from pipeline.errors import UserError


def test_rows_come_at_every_multiple_and_hold_the_mean_since_the_last(tmp_path):
    curve = Curve(tmp_path / "curve.csv", every=100)
    curve.add(np.array([1.0, 3.0]))
    curve.advance(90)
    assert not (tmp_path / "curve.csv").exists()
    curve.advance(120)
    curve.add(np.array([5.0]))
    curve.advance(250)
    assert [(s, r) for s, _, r in read_curve(tmp_path / "curve.csv")] == [(120, 2.0), (250, 5.0)]


def test_the_first_row_waits_for_an_episode_and_later_ones_keep_the_mean(tmp_path):
    curve = Curve(tmp_path / "curve.csv", every=100)
    curve.advance(100)
    curve.add(np.array([7.0]))
    curve.advance(130)
    curve.advance(210)
    curve.add(np.array([9.0]))
    curve.advance(300)
    assert [(s, r) for s, _, r in curve.rows] == [(130, 7.0), (210, 7.0), (300, 9.0)]


def test_a_run_without_an_episode_leaves_an_empty_curve(tmp_path):
    curve = Curve(tmp_path / "curve.csv", every=100)
    curve.advance(100, last=True)
    assert read_curve(tmp_path / "curve.csv") == []


@settings(deadline=None, max_examples=25)
@given(
    kills=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=4),
    every=st.integers(20, 60),
    batch=st.integers(1, 30),
    episode=st.integers(1, 50),
)
def test_killed_and_resumed_at_any_moment_there_is_neither_gap_nor_repeat(
    tmp_path_factory, kills, every, batch, episode
):
    """Each kill comes after some steps, and the run goes on from a checkpoint before it."""
    path, goal = tmp_path_factory.mktemp("curve") / "curve.csv", 400
    starts = [0]
    for ahead, behind in kills:
        end = min(goal, starts[-1] + ahead * batch)
        starts.append(max(0, end - behind) // batch * batch)
        run(path, every, batch, episode, starts[-2], end)
    run(path, every, batch, episode, starts[-1], goal, last=True)
    rows = read_curve(path)
    steps = [row[0] for row in rows]
    gaps = np.diff(steps)
    assert (gaps > 0).all()
    assert max(gaps, default=0) < 2 * every + batch
    assert steps[0] < 2 * (every + batch + episode)  # the first waits for an episode
    assert steps[-1] == -(-goal // batch) * batch
    assert [seconds for _, seconds, _ in rows] == sorted(seconds for _, seconds, _ in rows)


def run(path, every, batch, episode, start, end, last=False):
    curve = Curve.resume(path, every, steps=start)
    steps = start
    while steps < end:
        steps += batch
        for ended in range((steps - batch) // episode + 1, steps // episode + 1):
            curve.add(np.array([float(ended)]))
        curve.advance(steps)
    if last:
        curve.advance(steps, last=True)


def test_the_score_of_a_moment_is_never_of_few_episodes(tmp_path):
    curve = Curve(tmp_path / "curve.csv", every=100)
    curve.add(np.full(SCORED_ON - 1, 4.0))
    assert curve.advance(100)
    assert curve.score() is None
    curve.add(np.array([8.0]))
    assert not curve.advance(150)
    assert curve.advance(200)
    assert curve.score() == 4 + 4 / SCORED_ON
    curve.add(np.arange(2.0 * SCORED_ON))  # more than enough: older ones no longer count
    assert curve.advance(300)
    assert curve.score() == SCORED_ON - 0.5


@pytest.mark.parametrize("text", ["steps,return\n1,2\n", "steps,seconds,return\n1,x,2\n", "\0"])
def test_what_is_no_curve_is_one_line(text, tmp_path):
    path = tmp_path / "curve.csv"
    path.write_text(text + "steps,seconds,return\n1\n")
    with pytest.raises(UserError, match=r"curve\.csv"):
        read_curve(path)
