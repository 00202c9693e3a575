import errno
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.errors import LINE, PlainFormatter, UserError, did_you_mean
from pipeline.stage import (
    exit_with_one_line,
    log,
    progress,
    read_json,
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


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "", "a/b"),
            "error: 'a/b': No space left on device: free some space",
        ),
        (PermissionError(errno.EACCES, "", "a/b"), "error: 'a/b': Permission denied: change"),
        (OSError("offline\nand more"), "error: offline\n"),
    ],
)
def test_an_error_of_the_system_is_one_line_and_code_2(
    error: OSError, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused() -> None:
        raise error

    with pytest.raises(SystemExit) as exit:
        exit_with_one_line(refused)
    assert exit.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(line)
    assert said.count("\n") == 1


PRINT = """
from pipeline.stage import exit_with_one_line
def run():
    if {rich}:
        from rich.console import Console
        Console().print("x\\n" * 10**4)
    else:
        print("x" * {count})
exit_with_one_line(run)
"""


@pytest.mark.parametrize(("rich", "count"), [(False, 10), (False, 10**6), (True, 0)])
def test_a_closed_pipe_is_one_line(rich: bool, count: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", PRINT.format(rich=rich, count=count)],
        stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=100,
    )  # fmt: skip
    os.close(writing)
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard output: Broken pipe: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_standard_output_that_is_full_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PRINT.format(rich=False, count=10)],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=100,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard output: No space left on device: ")


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


def test_progress_yields_everything_and_logs_off_a_terminal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("pipeline.stage.time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(log, "propagate", True)
    with caplog.at_level(logging.INFO, logger="jat"):
        assert list(progress("abcd", "letters")) == list("abcd")
    assert caplog.messages == ["letters: 2 of 4 it", "letters: 4 of 4 it"]


def test_a_log_line_cannot_command_the_terminal() -> None:
    record = logging.LogRecord("jat", logging.INFO, "", 0, "%s\n%s", ("\x1b[31mred", "b"), None)
    assert PlainFormatter("%(message)s").format(record) == "?[31mred\nb"


def test_an_error_is_one_bounded_printable_line() -> None:
    line = str(UserError(f"a\n b\x1b[2J {'x' * 5000} the remedy"))
    assert line.startswith("a b?[2J xxx")
    assert line.endswith("the remedy")
    assert len(line) == LINE
