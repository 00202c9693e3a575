import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.unlock import unlock


def entry(pid: int) -> dict:
    return {"pid": pid, "cmd": "dvc repro"}


@pytest.fixture
def dead() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def dvc() -> Iterator[int]:
    """A process that looks like DVC."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()", "dvc"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    yield process.pid
    process.communicate()


def test_who_is_dead_or_no_dvc_is_taken_out(tmp_path: Path, dead: int, dvc: int) -> None:
    path = tmp_path / "rwlock"
    listed = {
        "write": {"a": entry(dead), "b": entry(dvc), "c": entry(os.getpid())},
        "read": {"d": [entry(dead), entry(dvc)], "e": [entry(dead)]},
    }
    path.write_text(json.dumps(listed))
    lines = unlock(tmp_path)
    assert {str(dead) in line or str(os.getpid()) in line for line in lines} == {True}
    assert len(lines) == 2
    kept = json.loads(path.read_text())
    assert kept == {"write": {"b": entry(dvc)}, "read": {"d": [entry(dvc)]}}
    assert unlock(tmp_path) == []


def test_a_half_written_list_is_removed(tmp_path: Path) -> None:
    (tmp_path / "rwlock").write_text('{"write": {"a": {"pid": 1')
    (line,) = unlock(tmp_path)
    assert "half written" in line
    assert not (tmp_path / "rwlock").exists()


def test_nothing_to_unlock_is_fine(tmp_path: Path) -> None:
    assert unlock(tmp_path / "none") == []
