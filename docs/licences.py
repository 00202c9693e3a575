"""Write the tables of docs/LICENCES.md: ``make licences``.

Names and versions are those of the locks, and of torch in pyproject.toml; each licence is what the
metadata of the installed package says.
"""

import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from itertools import product
from pathlib import Path

from packaging.markers import Marker

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "LICENCES.md"
LOCKS = {"To use the project": "requirements.lock", "To develop it": "requirements-dev.lock"}
"""Heading of a table -> the lock that it shows."""
PLATFORMS = [
    {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": system,
     "platform_machine": machine, "implementation_name": "cpython"}
    for python, (system, machine) in product(
        ("3.11", "3.12", "3.13"),
        (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")),
    )
]  # fmt: skip
"""Where the project can be installed; packages for other platforms are left out."""
READ = {"pyglet": "BSD-3-Clause"}
"""Package -> its SPDX licence, read by hand from its licence text, as its metadata names none."""


def locked(lock: str) -> dict[str, str]:
    """Name -> version of what a lock installs on any of ``PLATFORMS``."""
    text = (ROOT / lock).read_text(encoding="utf8")
    pins = re.findall(r"^([a-z0-9.-]+)==(\S+)(?: ; (.*?))?(?: \\)?$", text, re.MULTILINE)
    return {
        name: version
        for name, version, marker in pins
        if not marker or any(Marker(marker).evaluate(platform) for platform in PLATFORMS)
    }


def torch() -> dict[str, str]:
    """torch, which is in no lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]
    (pin,) = [one for one in project["dependencies"] if one.startswith("torch==")]
    return {"torch": pin.partition("==")[2]}


def packages(lock: str) -> dict[str, str]:
    """Name -> version of a table's rows, in their order."""
    found = locked(lock) | (torch() if lock == "requirements.lock" else {})
    return dict(sorted(found.items()))


def licence(package: Distribution, name: str) -> str:
    """What a package's metadata says: an SPDX expression, a name, or its classifiers."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    if name in READ:
        return READ[name]
    named = (metadata.get("License") or "").strip()
    if named and "\n" not in named and len(named) <= 60:
        return named.replace("|", "or")
    classifiers = metadata.get_all("Classifier") or []
    found = [one.rpartition(" :: ")[2] for one in classifiers if one.startswith("License ::")]
    return ", ".join(found)


def rows(lock: str) -> list[tuple[str, str, str]]:
    """(package, version, licence); the licence is empty if the package is not installed."""
    found = []
    for name, version in packages(lock).items():
        try:
            found.append((name, version, licence(distribution(name), name)))
        except PackageNotFoundError:
            found.append((name, version, ""))
    return found


def table(lock: str) -> str:
    """Markdown; a SystemExit names packages whose licence is not known."""
    found = rows(lock)
    if unknown := [name for name, _, of in found if not of]:
        raise SystemExit(
            f"error: no licence of {', '.join(unknown)}: add it to READ, or `make dev`"
        )
    lines = [f"| {name} | {version} | {of} |" for name, version, of in found]
    return "\n".join(["| package | version | licence |", "|---|---|---|", *lines])


def main() -> None:
    """Put the tables into the page, below the text that people wrote."""
    text = PAGE.read_text(encoding="utf8")
    for heading, lock in LOCKS.items():
        before, found, after = text.partition(f"\n## {heading}\n")
        assert found, f"{PAGE} has no heading '{heading}'"
        _, following, rest = after.partition("\n## ")
        text = f"{before}{found}\n{table(lock)}\n{following}{rest}"
    PAGE.write_text(text, encoding="utf8")


if __name__ == "__main__":
    main()
