"""Units of work in this process: what is tried again, and whose result is whose."""

from collections.abc import Iterator
from typing import Any

import pytest

from pipeline import fanout
from pipeline.errors import UserError
from pipeline.fanout import attempt_all, fan_out


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout.log, "disabled", True)


class Flaky:
    """Fails as often as it is told to, and counts its calls."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self, unit: int) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return unit


@pytest.mark.parametrize(
    ("failures", "retries", "calls", "outcome"),
    [
        (0, 1, 1, (True, 7)),
        (1, 1, 2, (True, 7)),
        (2, 1, 2, (False, "ValueError: broken")),
        (2, 2, 3, (True, 7)),
        (1, 0, 1, (False, "ValueError: broken")),
    ],
)
def test_a_fault_is_tried_again_as_often_as_asked(
    failures: int, retries: int, calls: int, outcome: tuple[bool, Any]
) -> None:
    unit = Flaky(failures, ValueError("broken\nin a second line"))
    assert attempt_all(unit, [7], workers=1, desc="try", retries=retries) == [outcome]
    assert unit.calls == calls


def test_bad_input_is_not_tried_again() -> None:
    unit = Flaky(1, UserError("'a.json' is not valid JSON: delete it"))
    outcome = (False, "'a.json' is not valid JSON: delete it")
    assert attempt_all(unit, [7], workers=1, desc="try", retries=3) == [outcome]
    assert unit.calls == 1


def test_an_interrupt_stops_everything() -> None:
    unit = Flaky(1, KeyboardInterrupt())  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        attempt_all(unit, [7, 8], workers=1, desc="try")
    assert unit.calls == 1


def test_results_are_those_of_their_units_whichever_ends_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def last_first(function: Any, units: Any, *_: Any) -> Iterator[tuple[int, tuple[bool, Any]]]:
        for k in (2, 0, 3, 1):
            yield k, (True, function(units[k]))

    monkeypatch.setattr(fanout, "_with_ray", last_first)
    assert fan_out(lambda unit: unit * unit, [5, 6, 7, 8], workers=2, desc="squares") == [
        25, 36, 49, 64,
    ]  # fmt: skip


def test_a_failure_names_its_own_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    def second_fails(function: Any, units: Any, *_: Any) -> Iterator[tuple[int, tuple[bool, Any]]]:
        yield 1, (False, "it died")
        yield 0, (True, 0)

    monkeypatch.setattr(fanout, "_with_ray", second_fails)
    with pytest.raises(UserError, match=r"1 of 2 failed, the others are kept: b \(it died\)"):
        fan_out(str, ["a", "b"], workers=2, desc="try")
