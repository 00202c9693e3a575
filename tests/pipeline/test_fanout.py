import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline import domains, tasks
from pipeline.errors import UserError
from pipeline.fanout import attempt_all, fan_out
from pipeline.ray_cluster import running_ray
from pipeline.stage import log
from pipeline.types import Modality, Task


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


def dies_always() -> Callable[[int], int]:
    """A unit whose process never survives 2."""

    def play(number: int) -> int:
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    return play


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One Ray for all tests of this file: it takes seconds to start."""
    with running_ray(2):
        yield


def lookup() -> Callable[[str], str]:
    """A unit that says what its process knows of a task, and of the domain that it is of."""

    def play(id: str) -> str:
        from pipeline.domains import get_domain
        from pipeline.tasks import get_task

        task = get_task(id)
        return f"{task.title} of {get_domain(task.domain).title}"

    return play


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


@pytest.mark.usefixtures("cluster")
def test_a_unit_that_kills_every_worker_is_reported_and_the_others_are_done(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "propagate", True)
    die = dies_always()
    outcomes = attempt_all(die, range(5), workers=2, desc="play", name="task-{}".format)
    assert [ok for ok, _ in outcomes] == [True, True, False, True, True]
    assert [result for ok, result in outcomes if ok] == [0, 1, 3, 4]
    (said,) = [record.getMessage() for record in caplog.records if "failed" in record.getMessage()]
    assert said.startswith("play: task-2 failed (WorkerCrashedError")
    with pytest.raises(UserError, match=r"1 of 5 failed.*task-2 \(WorkerCrashedError"):
        fan_out(die, range(5), workers=2, desc="play", name="task-{}".format)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("needed", "key"), [({"cpus": 64}, "cpus"), ({"gpus": 9}, "gpus")])
def test_resources_that_no_machine_has_are_one_line(needed: dict[str, float], key: str) -> None:
    with pytest.raises(UserError, match=f"no machine of the Ray cluster has .*lower '{key}'"):
        fan_out(square, range(3), workers=2, desc="squares", **needed)


@pytest.mark.usefixtures("cluster")
def test_tasks_that_need_all_cores_run_one_at_a_time(tmp_path: Path) -> None:
    assert most_at_once(tmp_path, cpus=1, patience=60) == 2
    assert most_at_once(tmp_path, cpus=2, patience=0.5) == 1


def most_at_once(folder: Path, cpus: float, patience: float) -> int:
    """How many of two units run side by side on two CPUs; each waits so long for the other."""

    def play(unit: int) -> int:
        mine = folder / str(unit)
        mine.touch()
        start = time.monotonic()
        while (seen := len(list(folder.iterdir()))) < 2 and time.monotonic() - start < patience:
            time.sleep(0.01)
        time.sleep(0.2)
        mine.unlink()
        return seen

    return max(fan_out(play, range(2), workers=2, desc="play", cpus=cpus))


def test_many_failures_are_summed_up_in_one_line() -> None:
    def bad(unit: int) -> int:
        raise UserError(f"unit {unit} is bad")

    with pytest.raises(UserError, match=r"9 of 9 failed.* …") as error:
        fan_out(bad, range(9), workers=1, desc="play")
    assert str(error.value).count("is bad") == 5


def test_progress_counts_every_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def count(items, desc, total):
        assert total == 3
        for item in items:
            seen.append(desc)
            yield item

    monkeypatch.setattr("pipeline.fanout.progress", count)
    fan_out(square, [1, 2, 3], workers=1, desc="squares")
    assert seen == ["squares"] * 3


TOYS = """
from pipeline.types import Domain
DOMAIN = Domain(name="toys", title="Toys")
"""


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_brought_is_known_where_the_work_is_done(tmp_path: Path, workers: int) -> None:
    (tmp_path / "toys.py").write_text(TOYS)
    domains.bring({"toys": str(tmp_path / "toys.py")})
    tasks.bring([Task("ball", "toys", "Ball", Modality("continuous", "discrete"), "toy")])
    try:
        found = fan_out(lookup(), ["ball", "mujoco-ant"], workers=workers, desc="look")
    finally:
        domains.bring({})
        tasks.bring(())
    assert found == ["Ball of Toys", "Ant of MuJoCo"]
