"""Manifests: what decided a folder's data, and the checksum of every file in it."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.shards import sha256
from pipeline.stage import read_json

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


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """A folder's manifest; UserError that names the file if it is missing or malformed."""
    path = Path(folder) / NAME
    manifest = read_json(path)
    if not isinstance(manifest, dict) or not _names_files(manifest.get("files")):
        raise UserError(f"'{path}' is not a manifest: delete it and run its stage again")
    return manifest


def _names_files(files: Any) -> bool:
    """Whether each entry is complete and names a file of the folder itself."""
    return isinstance(files, list) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("file"), str)
        and Path(entry["file"]).name == entry["file"]
        and isinstance(entry.get("bytes"), int)
        and isinstance(entry.get("sha256"), str)
        for entry in files
    )


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
