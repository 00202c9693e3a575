import math

from hypothesis import given
from hypothesis import strategies as st

from pipeline.quantities import duration, quantity


@given(st.floats(1e-4, 1e15))
def test_quantities_are_short(value: float) -> None:
    assert len(quantity(value, "B")) <= 9


def test_quantity() -> None:
    values = (0, 3, 1234567, 20_000, 0.0123, 512.4, 2.5e9)
    shown = ["–", "3", "1.23 M", "20 k", "0.012", "512", "2.5 G"]
    assert [quantity(value) for value in values] == shown


def test_duration() -> None:
    shown = [duration(hours) for hours in (0, math.nan, 0.001, 0.05, 1.5, 29_200)]
    assert shown == ["–", "?", "4 s", "3 min", "1.5 h", "29.2 kh"]
