"""Whatever a parameter file says: it is read, or refused in lines; nothing else ever happens."""

import copy
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mutations
import pytest
import yaml

from pipeline.check import find_mistakes
from pipeline.errors import LINE, UserError
from pipeline.params import load_params

ROOT = Path(__file__).parents[2]
PROFILES = [ROOT / "params.yaml", *sorted((ROOT / "params").glob("*.yaml"))]
TEXTS = [path.read_text(encoding="utf8") for path in PROFILES if path.stem != "paper"]
OWN = """
environments: {cart: {id: CartPole-v1, max_episode_steps: 50, solved: 40}}
gymnasium: {expert: {steps: 1000, envs: 16}, collect: {episodes: 4}}
"""
SECONDS = 60
"""No file takes as long on any machine."""


@contextmanager
def hurried() -> Iterator[None]:
    """Fails what hangs."""

    def late(number: int, frame: Any) -> None:
        raise AssertionError(f"it takes more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def refusals(path: Path) -> list[str]:
    """The lines with which a file is refused: none if it is a good one."""
    with hurried():
        try:
            load_params(path)
            first = []
        except UserError as error:
            first = [str(error)]
        try:
            lines = find_mistakes(path)[1]
        except UserError as error:
            lines = [str(error)]
    for line in [*first, *lines]:
        assert line.isprintable(), line
        assert len(line) <= LINE, line
    assert lines or not first, "the check lets pass what a stage refuses"
    return lines


def write(folder: Path, data: bytes) -> Path:
    path = folder / "params.yaml"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("part", range(4))
def test_any_parameter_file_is_read_or_refused_in_lines(part: int, tmp_path: Path) -> None:
    refused = 0
    for case in range(mutations.cases(50)):
        rng = random.Random(part * 10**6 + case)
        data = mutations.change_parameters(rng, rng.choice(TEXTS))
        path = write(tmp_path, data)
        try:
            refused += bool(refusals(path))
        except BaseException:
            print(f"part {part}, case {case}: {data[:3000]!r}")
            raise
    assert refused > mutations.cases(50) / 4


FREE = {"kwargs", "environments", "domains"}
"""Groups whose keys are the user's own."""


def test_no_unknown_key_and_no_unknown_task_passes(tmp_path: Path) -> None:
    for case in range(mutations.cases(60)):
        rng = random.Random(case)
        values = yaml.safe_load(rng.choice(TEXTS))
        keys = [
            place
            for place in mutations.places(values)
            if isinstance(place[-1], str) and not FREE & set(place[:-1])
        ]
        place = rng.choice(keys)
        changed = copy.deepcopy(values)
        group = mutations.group_of(changed, place)
        group[mutations.misspelt(rng, place[-1])] = group.pop(place[-1])
        path = write(tmp_path, yaml.safe_dump(changed).encode())
        assert refusals(path), f"case {case}: {place} may be misspelt"


def test_no_misspelt_task_passes(tmp_path: Path) -> None:
    for case in range(mutations.cases(20)):
        rng = random.Random(case)
        values = yaml.safe_load(rng.choice(TEXTS))
        lists = [place for place in mutations.places(values) if "tasks" in place[-2:-1]]
        place = rng.choice(lists)
        group = mutations.group_of(values, place)
        group[place[-1]] = mutations.misspelt(rng, group[place[-1]])
        assert refusals(write(tmp_path, yaml.safe_dump(values).encode())), (case, place)


def test_what_a_profile_brings_is_fuzzed_too(tmp_path: Path) -> None:
    text = TEXTS[-1] + OWN
    assert not refusals(write(tmp_path, text.encode()))
    for case in range(mutations.cases(6)):
        rng = random.Random(case)
        values = yaml.safe_load(text)
        own = {key: values[key] for key in ("environments", "gymnasium")}
        values |= mutations.change_values(rng, own)
        refusals(write(tmp_path, yaml.safe_dump(values).encode()))


@pytest.mark.parametrize("kind", ["fifo", "folder", "zeros", "huge", "null name"])
def test_what_is_no_file_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "zeros":
        path = Path("/dev/zero")
    elif kind == "huge":
        path.write_bytes(b"a: b\n" * 10**6)
    else:
        path = Path("params\0.yaml")
    assert refusals(path)
