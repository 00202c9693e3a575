import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from pipeline import outputs
from pipeline.outputs import (
    claimed,
    parts_folder,
    remove_parts,
    replaced_file,
    replaced_folder,
    sweep,
    write_atomic,
    write_json,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed(folder: Path, code: str) -> None:
    """Run some lines, which must end by SIGKILL, in ``folder``."""
    whole = "import os, signal\nfrom pipeline.outputs import *\n" + textwrap.dedent(code)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run([sys.executable, "-c", whole], cwd=folder, env=environment)
    assert done.returncode == -signal.SIGKILL


DIE = "os.kill(os.getpid(), signal.SIGKILL)"


def test_a_write_replaces_the_file_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_atomic(path, "old")
    write_atomic(path, b"new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["x"]


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    write_atomic(tmp_path / "x", "old")
    with pytest.raises(ValueError, match="broken"), replaced_file(tmp_path / "x") as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise ValueError("broken")
    assert (tmp_path / "x").read_text() == "old"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(outputs, "exchange", unable)
    for content in ("one", "two"):
        with replaced_folder(tmp_path / "out") as folder:
            (folder / content).write_text(content)
    assert names(tmp_path / "out") == ["two"]
    assert names(tmp_path) == ["out"]


def unable(one: Path, other: Path) -> None:
    raise OSError(errno.EINVAL, "no such thing here")


def test_a_folder_is_there_at_every_moment_while_it_is_replaced(tmp_path: Path) -> None:
    target, missing, over = tmp_path / "out", [], threading.Event()
    with replaced_folder(target) as folder:
        (folder / "file").write_text("")

    def look() -> None:
        while not over.is_set():
            if not (target / "file").exists():
                missing.append(1)

    watcher = threading.Thread(target=look)
    watcher.start()
    for _ in range(200):
        with replaced_folder(target) as folder:
            (folder / "file").write_text("")
    over.set()
    watcher.join()
    assert not missing


def test_what_a_link_stands_for_is_replaced_not_the_link(tmp_path: Path) -> None:
    (tmp_path / "disk" / "out").mkdir(parents=True)
    (tmp_path / "out").symlink_to("disk/out")
    with replaced_folder(tmp_path / "out") as folder:
        (folder / "new").write_text("")
    assert (tmp_path / "out").is_symlink()
    assert names(tmp_path / "disk" / "out") == ["new"]
    assert names(tmp_path / "disk") == ["out"]


@pytest.mark.parametrize(("make", "replaced"), [("file", replaced_folder), ("dir", replaced_file)])
def test_something_else_in_the_place_is_found_before_the_work(
    tmp_path: Path, make: str, replaced
) -> None:
    path = tmp_path / "out"
    path.write_text("mine") if make == "file" else path.mkdir()
    with pytest.raises(OSError, match="out"), replaced(path):
        pytest.fail("the work was begun")
    assert names(tmp_path) == ["out"]


def test_errors_name_the_final_place(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="space") as error, replaced_folder(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.filename == str(tmp_path / "out")
    with pytest.raises(FileNotFoundError) as error, replaced_folder(tmp_path / "out") as folder:
        (folder / "a" / "b").write_text("")
    assert error.value.filename == str(tmp_path / "out" / "a" / "b")


def test_the_next_run_removes_what_a_dead_one_left(tmp_path: Path) -> None:
    killed(
        tmp_path,
        f"""
        with replaced_folder("out") as folder:
            (folder / "half").write_text("")
            with replaced_file("deep/x.json") as file:
                file.write_text("half")
                {DIE}
        """,
    )
    assert len(names(tmp_path)) == 2
    assert names(tmp_path / "deep") != []
    with claimed(tmp_path / "deep", tmp_path / "out"):
        assert names(tmp_path) == ["deep"]
        assert names(tmp_path / "deep") == []


def test_a_folder_that_was_pushed_aside_is_put_back(tmp_path: Path) -> None:
    (tmp_path / ".out.123.old").mkdir()
    (tmp_path / ".out.123.old" / "costly").write_text("")
    sweep(tmp_path / "out")
    assert names(tmp_path / "out") == ["costly"]
    (tmp_path / ".out.124.old").mkdir()
    sweep(tmp_path / "out")
    assert names(tmp_path) == ["out"]


def test_what_a_running_process_writes_is_left_alone(tmp_path: Path) -> None:
    begun, over = threading.Event(), threading.Event()

    def write() -> None:
        with replaced_folder(tmp_path / "out" / "task") as folder:
            (folder / "half").write_text("")
            begun.set()
            over.wait(60)

    writer = threading.Thread(target=write)
    writer.start()
    assert begun.wait(60)
    sweep(tmp_path / "out")
    live = names(tmp_path / "out")
    over.set()
    writer.join()
    assert len(live) == 1
    assert names(tmp_path / "out") == ["task"]


def test_steps_are_kept_for_the_same_key_alone(tmp_path: Path) -> None:
    parts = parts_folder(tmp_path / "out", "abc123")
    parts.mkdir()
    other = parts_folder(tmp_path / "out2", "abc123")
    other.mkdir()
    assert parts_folder(tmp_path / "out", "abc123").exists()
    assert parts_folder(tmp_path / "out", "def456") != parts
    assert names(tmp_path) == [other.name]
    remove_parts(tmp_path / "out2")
    assert names(tmp_path) == []


def test_json_is_sorted_and_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "deep" / "x.json", {"b": 1, "a": [1.5, None]})
    text = (tmp_path / "deep" / "x.json").read_text()
    assert text.index('"a"') < text.index('"b"')


@pytest.mark.skipif(not shutil.which("chmod") or os.getuid() == 0, reason="root may write anywhere")
def test_no_permission_is_found_before_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(PermissionError), replaced_folder(tmp_path / "out"):
        pytest.fail("the work was begun")


def test_a_write_that_stops_half_way_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    write_atomic(path, "old")
    whole = Path.write_bytes

    def half(self: Path, data: bytes) -> int:
        whole(self, data[: len(data) // 2])
        raise ValueError("stopped")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(ValueError, match="stopped"):
        write_atomic(path, "new content")
    assert path.read_text() == "old"


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with replaced_folder(path) as folder:
        (folder / "old").touch()
    with pytest.raises(ValueError, match="stopped"), replaced_folder(path) as folder:  # noqa: PT012
        (folder / "new").touch()
        raise ValueError("stopped")
    assert [file.name for file in path.iterdir()] == ["old"]
