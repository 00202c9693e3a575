import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from pipeline.errors import UserError
from pipeline.fanout import fan_out, start_ray
from pipeline.stage import log


@pytest.fixture(autouse=True)
def _own_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "handlers", [logging.NullHandler()])


def square(unit: int) -> int:
    return unit * unit


def picky(folder: Path) -> Callable[[int], int]:
    """A unit that leaves a mark for each attempt; 5 is bad input, 3 a fault.

    Local, so that Ray sends it by value: its workers cannot import a test.
    """

    def play(number: int) -> int:
        with (folder / str(number)).open("a") as marks:
            marks.write("x")
        if number == 5:
            raise UserError("'five.json' is not valid JSON: delete it")
        if number == 3:
            raise ValueError("three\nwith a second line")
        return number

    return play


def dies_once(folder: Path) -> Callable[[int], int]:
    """A unit whose process is killed at the first attempt of 1."""

    def play(number: int) -> int:
        mark = folder / str(number)
        if number == 1 and not mark.exists():
            mark.write_text("killed")
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    return play


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One Ray for all tests of this file: it takes seconds to start."""
    start_ray(2)
    yield
    ray.shutdown()


def attempts(folder: Path) -> dict[int, int]:
    return {int(path.name): len(path.read_text()) for path in folder.iterdir()}


def test_results_come_in_the_order_of_units() -> None:
    assert fan_out(square, [3, 1, 2], workers=1, desc="squares") == [9, 1, 4]
    assert fan_out(square, [], workers=4, desc="nothing") == []


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_stops_no_other_unit(tmp_path: Path, workers: int) -> None:
    with pytest.raises(UserError) as error:
        fan_out(picky(tmp_path), range(8), workers=workers, desc="play", name="task-{}".format)
    message = str(error.value)
    assert message.startswith("play: 2 of 8 failed")
    assert "task-3 (ValueError: three)" in message
    assert "task-5 ('five.json' is not valid JSON: delete it)" in message
    assert "\n" not in message
    # Bad input stays bad, so only the fault is tried again.
    assert attempts(tmp_path) == {number: 2 if number == 3 else 1 for number in range(8)}


@pytest.mark.usefixtures("cluster")
def test_a_killed_worker_is_replaced_and_order_is_kept(tmp_path: Path) -> None:
    assert fan_out(dies_once(tmp_path), range(6), workers=2, desc="play") == list(range(6))
    assert (tmp_path / "1").exists()


def test_many_failures_are_summed_up_in_one_line() -> None:
    def bad(unit: int) -> int:
        raise UserError(f"unit {unit} is bad")

    with pytest.raises(UserError, match=r"9 of 9 failed.* …") as error:
        fan_out(bad, range(9), workers=1, desc="play")
    assert str(error.value).count("is bad") == 5


def test_progress_counts_every_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def count(items, desc):
        for item in items:
            seen.append(desc)
            yield item

    monkeypatch.setattr("pipeline.fanout.progress", count)
    fan_out(square, [1, 2, 3], workers=1, desc="squares")
    assert seen == ["squares"] * 3


def test_a_cluster_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **_: (_ for _ in ()).throw(ConnectionError("gone")))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(UserError, match=r"RAY_ADDRESS=10\.0\.0\.1:6379 \(.*gone\)"):
        fan_out(square, [1, 2], workers=2, desc="squares")
