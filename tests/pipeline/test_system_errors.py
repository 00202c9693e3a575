import errno
import os
import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from pipeline.system_errors import naming, one_line


def lines_of(write) -> str:
    """The line for what ``write`` raises."""
    with pytest.raises(Exception) as error:  # noqa: PT011
        write()
    line = one_line(error.value)
    assert line is not None
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EROFS, "writable"),
        (errno.EACCES, "permissions"),
        (errno.ENAMETOOLONG, "shorter name"),
        (errno.ENOTDIR, "move it away"),
        (errno.ENOENT, "run the stage"),
    ],
)
def test_a_line_has_the_path_the_reason_and_the_remedy(number: int, remedy: str) -> None:
    line = one_line(OSError(number, "whatever", "artifacts/x"))
    assert line is not None
    assert line.startswith(f"'artifacts/x': {os.strerror(number)}: ")
    assert remedy in line


def test_real_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    inside, long = tmp_path / "file" / "x", tmp_path / ("x" * 300)
    assert str(inside) in lines_of(lambda: inside.write_text(""))
    assert str(long) in lines_of(lambda: long.write_text(""))
    assert str(tmp_path / "no") in lines_of(lambda: (tmp_path / "no" / "x").write_text(""))


def arrow(path: str) -> None:
    pq.write_table(pa.table({"a": np.random.default_rng(0).random(10**6)}), path)


def numbers(path: str) -> None:
    np.ones(10**6).tofile(path)


def rust(path: str) -> None:
    save_file({"a": torch.ones(10**6)}, path)


def pickled(path: str) -> None:
    torch.save({"a": torch.ones(10**6)}, path)


@pytest.mark.parametrize("write", [arrow, numbers, rust, pickled])
def test_whatever_writes_a_file_names_it(tmp_path: Path, write) -> None:
    def named() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with naming("artifacts/out"):
                write(str(tmp_path / "x"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    line = lines_of(named)
    assert line.startswith("'artifacts/out': ")
    # torch and numpy do not say why.
    assert "File too large: raise the limit" in line or "No space left on device: free" in line


def test_faults_of_ours_are_no_errors_of_the_system() -> None:
    assert one_line(ValueError("wrong")) is None
    with pytest.raises(ValueError, match="wrong"), naming("x"):
        raise ValueError("wrong")


def test_the_network_is_not_named_after_a_file() -> None:
    with pytest.raises(ConnectionRefusedError) as error, naming("x"):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    assert error.value.filename is None
    assert "refused" in str(one_line(error.value))


def test_what_was_raised_from_an_error_counts() -> None:
    def fail() -> None:
        raise RuntimeError("training failed") from OSError(errno.ENOSPC, "", "x")

    assert lines_of(fail).startswith("'x': No space left on device")
