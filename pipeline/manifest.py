"""Manifests: what decided a folder's data, and the checksum of every file in it."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.files import Manifest, read_model
from pipeline.shards import sha256

NAME = "manifest.json"
PACKAGES = ("envpool", "gymnasium", "metaworld", "minigrid", "mujoco", "numpy", "torch")
"""What simulates and decides: another version may give other episodes."""


def fingerprint(decides: Mapping[str, Any]) -> str:
    """sha256 of JSON-like settings, hexadecimal; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def difference(old: Any, new: Any) -> str:
    """What differs between two sets of what decides a result, in a few words for a log line."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return "it is not known what decided it"
    names = list(_differing(old, new))
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def same_but_code(old: Any, new: Any) -> bool:
    """Whether two sets of what decides a result differ in this project's code alone."""
    return _without_code(old) == _without_code(new)


def _without_code(decides: Any) -> Any:
    if not isinstance(decides, dict):
        return decides
    return {key: _without_code(value) for key, value in decides.items() if key != "code"}


def _differing(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differing(before, after, f"{prefix}{key} ")
        elif before != after:
            yield f"{prefix}{key}"


def package_versions() -> dict[str, str]:
    """The installed versions of ``PACKAGES``; those not installed are left out."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def file_record(path: Path, **more: Any) -> dict[str, Any]:
    """The manifest's entry for one file: its name, size and checksum, and ``more``."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path), **more}


def read_manifest(folder: str | Path, shape: type[Manifest] = Manifest) -> dict[str, Any]:
    """A folder's manifest; UserError that names the file if it is missing or malformed."""
    return read_model(Path(folder) / NAME, shape)


def check_files(folder: Path, names: Sequence[str]) -> None:
    """UserError for the first of a folder's files that its manifest, if it has one, contradicts."""
    if not (folder / NAME).exists():
        return
    known = {entry["file"]: entry for entry in read_manifest(folder)["files"]}
    for name in names:
        if name not in known:
            raise UserError(f"'{folder / name}' is not in its manifest: build the dataset again")
    for problem in file_problems(folder, [known[name] for name in names]):
        raise UserError(f"{problem}: build the dataset again")


def file_problems(folder: str | Path, files: list[dict[str, Any]]) -> list[str]:
    """One line for each file that is missing, or whose bytes are not those of the manifest."""
    problems = []
    for entry in files:
        path = Path(folder) / entry["file"]
        if not path.is_file():
            problems.append(f"{path}: missing")
        elif path.stat().st_size != entry["bytes"]:
            problems.append(
                f"{path}: {path.stat().st_size} bytes, the manifest says {entry['bytes']}"
            )
        elif sha256(path) != entry["sha256"]:
            problems.append(f"{path}: its checksum is not the manifest's")
    return problems
