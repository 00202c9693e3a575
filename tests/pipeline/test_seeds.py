import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.seeds import env_seeds, sequence

keys = st.lists(st.one_of(st.text(max_size=20), st.integers(0, 2**32 - 1)), max_size=3)


def state(*words: int | str) -> list[int]:
    return sequence(words[0], *words[1:]).generate_state(4).tolist()


@given(st.integers(0, 2**31), keys)
def test_the_same_unit_gets_the_same_seed(seed: int, words: list[int | str]) -> None:
    assert state(seed, *words) == state(seed, *words)


@given(st.integers(0, 2**31), keys, st.integers(1, 64))
def test_environment_seeds_fit_envpool(seed: int, words: list[int | str], count: int) -> None:
    seeds = env_seeds(seed, *words, count=count)
    assert len(seeds) == count
    assert all(0 <= value < 2**31 for value in seeds)


def test_tasks_shards_and_seeds_are_apart() -> None:
    units = [(s, t, k) for s in (0, 1) for t in ("atari-pong", "mujoco-ant") for k in range(50)]
    assert len({tuple(state(*unit)) for unit in units}) == len(units)


def test_a_longer_list_begins_with_the_shorter() -> None:
    assert env_seeds(0, "atari-pong", 3, count=8)[:3] == env_seeds(0, "atari-pong", 3, count=3)


def test_seeds_do_not_depend_on_the_process() -> None:
    # Python's own hash of a string differs between processes; crc32 does not.
    assert env_seeds(0, "mujoco-ant", 0, count=2) == env_seeds(0, "mujoco-ant", 0, count=2)
    drawn = np.array(env_seeds(0, "mujoco-ant", 0, count=1000))
    assert 0.4 < (drawn > 2**30).mean() < 0.6
