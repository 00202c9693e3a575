import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.errors import UserError, did_you_mean
from pipeline.stage import (
    exit_with_one_line,
    log,
    progress,
    read_json,
    replaced_folder,
    write_atomic,
    write_json,
)


@pytest.fixture(autouse=True)
def _own_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "propagate", log.propagate)
    monkeypatch.setattr(log, "level", log.level)


def fail() -> None:
    raise UserError("'a.b' is\n  wrong: mend it")


def test_a_user_error_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        exit_with_one_line(fail)
    assert exit.value.code == 2
    assert capsys.readouterr().err == "error: 'a.b' is wrong: mend it\n"


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_with_one_line(lambda: print(1 / 0))


def test_an_interrupted_stage_tells_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as exit:
        exit_with_one_line(interrupted)
    assert exit.value.code == 130
    assert "again" in capsys.readouterr().err


def test_nearest_name() -> None:
    assert did_you_mean("atari-pongg", ["atari-pong", "mujoco-ant"]) == (
        " (did you mean 'atari-pong'?)"
    )
    assert did_you_mean("zzz", ["atari-pong"]) == ""


def test_json_round_trip_and_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.json"
    write_json(path, {"b": 1, "a": [1.5, None]})
    assert read_json(path) == {"a": [1.5, None], "b": 1}
    assert path.read_text().index('"a"') < path.read_text().index('"b"')
    with pytest.raises(UserError, match=r"missing\.json' does not exist"):
        read_json(tmp_path / "missing.json")
    path.write_bytes(b'{"a": \xff')
    with pytest.raises(UserError, match=r"x\.json' is not valid JSON"):
        read_json(path)


def test_a_write_replaces_the_file_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_atomic(path, "old")
    write_atomic(path, b"new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for content in ("one", "two"):
        with replaced_folder(target) as folder:
            (folder / content).write_text(content)
    assert [path.name for path in target.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_block_keeps_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with replaced_folder(target) as folder:
        (folder / "old").write_text("")
    with pytest.raises(ValueError, match="broken"), replaced_folder(target) as folder:  # noqa: PT012
        (folder / "new").write_text("")
        raise ValueError("broken")
    assert [path.name for path in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_killed_block_leaves_no_half_folder_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    target = tmp_path / "out"
    code = f"""
        import os, signal
        from pipeline.stage import replaced_folder
        with replaced_folder({str(target)!r}) as folder:
            (folder / "half").write_text("")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=Path.cwd(), env=os.environ, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    assert len(list(tmp_path.iterdir())) == 1
    with replaced_folder(target) as folder:
        (folder / "whole").write_text("")
    assert list(tmp_path.iterdir()) == [target]


def test_progress_yields_everything_and_logs_off_a_terminal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("pipeline.stage.time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(log, "propagate", True)
    with caplog.at_level(logging.INFO, logger="jat"):
        assert list(progress("abcd", "letters")) == list("abcd")
    assert caplog.messages == ["letters: 2 of 4 it", "letters: 4 of 4 it"]


def test_a_write_that_stops_half_way_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    write_atomic(path, "old")
    whole = Path.write_bytes

    def half(self: Path, data: bytes) -> int:
        whole(self, data[: len(data) // 2])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="no space left"):
        write_atomic(path, "new content")
    assert path.read_text() == "old"
