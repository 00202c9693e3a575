"""What is installed: the locks, their licences, and what a built package holds."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]
LOCKS = ("requirements.lock", "requirements-dev.lock")
PACKAGES = ("pipeline", "experts", "dataset_builder", "trainer")

_spec = importlib.util.spec_from_file_location("licences", ROOT / "docs" / "licences.py")
assert _spec is not None
assert _spec.loader is not None
licences = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(licences)


def entries(lock: str) -> dict[str, str]:
    """Name -> the whole entry of a lock, with its hashes."""
    text = (ROOT / lock).read_text(encoding="utf8")
    found = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)
    return {entry.partition("==")[0]: entry for entry in found if entry}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_hashes_and_no_index(lock: str) -> None:
    found = entries(lock)
    assert len(found) > 20
    for name, entry in found.items():
        assert re.match(r"[a-z0-9.-]+==\S+( ;[^\n]+)? \\\n    --hash=sha256:[0-9a-f]{64}", entry), (
            name
        )
        assert "://" not in entry
    assert not [name for name in found if re.match(r"torch$|nvidia|cuda|triton", name)]


def test_the_second_lock_only_adds_to_the_first() -> None:
    assert not entries(LOCKS[0]).keys() & entries(LOCKS[1]).keys()


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_locks_agree_with_the_project(python: str) -> None:
    pins = licences.locked(LOCKS[0]) | licences.torch()
    for wish in PROJECT["dependencies"]:
        name, version = re.fullmatch(r"([a-z0-9-]+)(?:\[.*\])?(?:==(.*)|>=.*)?", wish).groups()
        assert version in (None, pins[name])
    assert f"Python {python}".removeprefix("Python ") in (ROOT / "setup.sh").read_text()
    assert python in (ROOT / ".github/workflows/ci.yml").read_text()


@pytest.mark.parametrize(("heading", "lock"), licences.LOCKS.items())
def test_every_package_has_its_licence_in_the_table(heading: str, lock: str) -> None:
    _, _, after = (ROOT / "docs/LICENCES.md").read_text(encoding="utf8").partition(f"## {heading}")
    found = re.findall(r"^\| (\S+) \| (\S+) \| (.+) \|$", after.partition("\n## ")[0], re.MULTILINE)
    shown = {name: (version, of) for name, version, of in found if name != "package"}
    assert {name: version for name, (version, _) in shown.items()} == licences.packages(lock)
    for name, (version, of) in shown.items():
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        if package.version.partition("+")[0] == version:
            assert of == licences.licence(package, name), "run `make licences`"


def test_a_built_package_has_its_data(tmp_path: Path) -> None:
    for name in (*PACKAGES, "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    committed = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == committed
    assert {f"{package}/py.typed" for package in PACKAGES} <= inside


def setup(folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run setup.sh in a folder of its own; nothing is installed."""
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "setup.sh", folder)
    return subprocess.run(
        ["/bin/sh", "setup.sh"], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_another_python_is_refused_in_one_line(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = setup(tmp_path / "a folder", PATH=os.environ["PATH"], PYTHON=str(old))
    assert done.returncode == 2
    assert done.stderr == f"error: '{old}' is not Python 3.11, 3.12 or 3.13\n"
    for tool in ("dirname", "sh"):
        (tmp_path / tool).symlink_to(Path(str(shutil.which(tool))))
    done = setup(tmp_path / "a folder", PATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("error: no Python 3.11, 3.12 or 3.13 was found")
    assert done.stderr.count("\n") == 1
