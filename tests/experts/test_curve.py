import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.curve import Curve, read_curve


def test_rows_come_at_every_multiple_and_hold_the_mean_since_the_last(tmp_path):
    curve = Curve(tmp_path / "curve.csv", every=100)
    curve.add(np.array([1.0, 3.0]))
    curve.advance(90)
    assert not (tmp_path / "curve.csv").exists()
    curve.advance(120)
    curve.add(np.array([5.0]))
    curve.advance(250)
    assert [(s, r) for s, _, r in read_curve(tmp_path / "curve.csv")] == [(120, 2.0), (250, 5.0)]


def test_a_row_waits_for_an_episode(tmp_path):
    curve = Curve(tmp_path / "curve.csv", every=100)
    curve.advance(100)
    curve.add(np.array([7.0]))
    curve.advance(130)
    assert [(s, r) for s, _, r in curve.rows] == [(130, 7.0)]


def test_a_run_without_an_episode_leaves_an_empty_curve(tmp_path):
    curve = Curve(tmp_path / "curve.csv", every=100)
    curve.advance(100, last=True)
    assert read_curve(tmp_path / "curve.csv") == []


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000))
def test_resuming_leaves_neither_gaps_nor_repeats(tmp_path_factory, killed_at):
    path = tmp_path_factory.mktemp("curve") / "curve.csv"

    def run(curve, start):
        for steps in range(start, 1001, 10):
            curve.add(np.array([float(steps)]))
            curve.advance(steps)

    run(Curve(path, every=50), 10)
    checkpoint = killed_at // 10 * 10
    run(Curve.resume(path, every=50, steps=checkpoint), checkpoint + 10)
    rows = read_curve(path)
    assert [steps for steps, _, _ in rows] == list(range(50, 1001, 50))
    assert [seconds for _, seconds, _ in rows] == sorted(seconds for _, seconds, _ in rows)
