"""Integers as one-hot vectors, numbers and frames as they are."""

import numpy as np
from gymnasium.spaces import Box
from hypothesis import given
from hypothesis import strategies as st

from experts.appo.inputs import MOST_INPUTS, Inputs, one_hot


def test_one_hot_by_hand() -> None:
    found = one_hot(np.array([[0, 2, 1], [1, 0, 0]]), (2, 3, 2))
    assert found.dtype == np.float32
    assert found.tolist() == [[1, 0, 0, 0, 1, 0, 1], [0, 1, 1, 0, 0, 1, 0]]


def test_a_value_that_cannot_be_is_zeros() -> None:
    assert one_hot(np.array([[2, -1]]), (2, 3)).tolist() == [[0, 0, 0, 0, 0]]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_every_integer_has_its_own_block(symbols: list[int], seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, symbols, (4, len(symbols)))
    blocks = np.split(one_hot(rows, tuple(symbols)), np.cumsum(symbols)[:-1], axis=1)
    for digit, block in enumerate(blocks):
        assert block.sum(axis=1).tolist() == [1] * 4
        assert block.argmax(axis=1).tolist() == rows[:, digit].tolist()


def test_what_is_wide_or_no_integer_is_taken_as_it_is() -> None:
    assert Inputs.of(Box(0, np.array([1, 2]), dtype=np.int64)).shape == (5,)
    wide = Inputs.of(Box(0, MOST_INPUTS, (2,), np.int64))
    assert (wide.shape, wide.symbols) == ((2,), ())
    assert wide.take(np.array([[1, 2]])).dtype == np.float32
    frames = Inputs.of(Box(0, 255, (4, 84, 84), np.uint8))
    assert (frames.shape, frames.symbols) == ((4, 84, 84), ())
    assert frames.take(np.zeros((1, 4, 84, 84), np.uint8)).dtype == np.uint8
