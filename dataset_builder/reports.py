"""The reports of corpora: what decided them, and what their files have to be."""

from pathlib import Path
from typing import Any

from pipeline.content import checksum, same_content
from pipeline.files import BuiltCorpus, Decided, read_model
from pipeline.manifest import difference
from pipeline.stage import log

NAME = "report.json"


def described(path: Path) -> dict[str, Any]:
    """What a report says of a file: its bytes and its checksum."""
    return {"bytes": path.stat().st_size, "sha256": checksum(path)}


def finished(folder: Path, decides: dict[str, Any]) -> dict[str, Any] | None:
    """The report of a corpus that is there as it would be built now; else a log line says what
    changed.
    """
    if not (folder / NAME).exists():
        return None
    known = read_model(folder / NAME, Decided).get("decides")
    if known != decides:
        log.info("%s: built anew, as this changed: %s", folder.name, difference(known, decides))
        return None
    report = read_model(folder / NAME, BuiltCorpus)
    for name, file in files_of(report).items():
        if not same_content(folder / name, file["bytes"], file["sha256"]):
            log.info("%s: built anew, as '%s' is not what was built", folder.name, name)
            return None
    return report


def files_of(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name -> what a report says of the file, of all splits."""
    groups = (report, report.get("train", {}), report.get("test", {}))
    return {name: file for group in groups for name, file in group.get("files", {}).items()}
