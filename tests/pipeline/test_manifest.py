from pathlib import Path

import pytest

from pipeline import manifest
from pipeline.errors import UserError
from pipeline.stage import write_json


def test_the_fingerprint_is_of_the_values_and_not_of_their_order() -> None:
    one = manifest.fingerprint({"seed": 1, "env": {"a": 1, "b": [1, 2]}})
    assert one == manifest.fingerprint({"env": {"b": [1, 2], "a": 1}, "seed": 1})
    assert one != manifest.fingerprint({"env": {"b": [2, 1], "a": 1}, "seed": 1})


def test_versions_are_those_installed() -> None:
    import numpy

    assert manifest.package_versions()["numpy"] == numpy.__version__


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.parquet").write_bytes(b"12345678")
    files = [manifest.file_record(tmp_path / "a.parquet", rows=3)]
    write_json(tmp_path / manifest.NAME, {"files": files})
    return tmp_path


def test_an_untouched_folder_has_no_problems(folder: Path) -> None:
    files = manifest.read_manifest(folder)["files"]
    assert files[0]["rows"] == 3
    assert manifest.file_problems(folder, files) == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "missing"), (b"123", "3 bytes, the manifest says 8"), (b"1234567x", "checksum")],
)
def test_a_changed_file_is_named(folder: Path, content: bytes | None, problem: str) -> None:
    path = folder / "a.parquet"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    (line,) = manifest.file_problems(folder, manifest.read_manifest(folder)["files"])
    assert line.startswith(str(path))
    assert problem in line


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"files": [1]},
        {"files": [{"file": "a"}]},
        {"files": [{"file": "../a", "bytes": 1, "sha256": ""}]},
        {"files": [{"file": "/etc/passwd", "bytes": 1, "sha256": ""}]},
    ],
)
def test_a_malformed_manifest_is_refused(tmp_path: Path, content: object) -> None:
    write_json(tmp_path / manifest.NAME, content)
    with pytest.raises(UserError, match=r"manifest\.json': '?(its|files)"):
        manifest.read_manifest(tmp_path)
