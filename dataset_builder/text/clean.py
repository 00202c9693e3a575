"""Documents in, clean documents and a report out: modifiers, filters, deduplication."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from dataset_builder.text.deduplicate import find_duplicates
from dataset_builder.text.document import Document
from dataset_builder.text.filters import Filter, build_filters, first_reason, modify

EXACT_DUPLICATE = "exact_duplicate"
NEAR_DUPLICATE = "near_duplicate"


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides whether a document stays; see `build_filters` and `find_duplicates`.

    With `filters="none"` documents are neither modified nor measured.
    """

    language: str = "en"
    filters: str = "roots"
    deduplication: str = "minhash"
    lid_model: str | None = None
    kenlm_model: str | None = None


@dataclass(frozen=True, slots=True)
class Filtered:
    """Documents that passed the filters, modified and in order, and what was dropped.

    Attributes:
        kept: the documents.
        sources: number of documents read, by source.
        dropped: number of documents dropped, by reason.
        bytes_in: UTF-8 bytes read.
    """

    kept: list[Document]
    sources: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    bytes_in: int = 0


@dataclass(frozen=True, slots=True)
class Cleaned:
    """The documents that stay, in order, and the report on all of them (see `merge_reports`)."""

    documents: list[Document]
    report: dict[str, Any]


def filter_documents(documents: Iterable[Document], rules: Rules) -> Filtered:
    """Apply the modifiers and filters to each document.

    Raises:
        UserError: a model that `rules` names cannot be used.
    """
    filters, _ = _filters(rules)
    kept: list[Document] = []
    sources: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    bytes_in = 0
    for document in documents:
        sources[document.meta.get("source", "")] += 1
        bytes_in += len(document.text.encode())
        text = document.text if rules.filters == "none" else modify(document.text)
        reason = first_reason(text, filters)
        if reason is None:
            kept.append(Document(document.id, text, document.meta))
        else:
            dropped[reason] += 1
    return Filtered(kept, sources, dropped, bytes_in)


@lru_cache(maxsize=4)
def _filters(rules: Rules) -> tuple[list[Filter], dict[str, str]]:
    """Models load once a process, not once a batch."""
    if rules.filters == "none":
        return [], {"all": "filters is none"}
    return build_filters(rules.language, rules.lid_model, rules.kenlm_model)


def clean(batches: Sequence[Filtered], rules: Rules) -> Cleaned:
    """Drop the duplicates among filtered batches, of each group all but the first document."""
    candidates = [document for batch in batches for document in batch.kept]
    found = find_duplicates([document.text for document in candidates], rules.deduplication)
    documents = [candidates[index] for index in found.keep]
    dropped = sum((batch.dropped for batch in batches), Counter[str]())
    if found.exact:
        dropped[EXACT_DUPLICATE] = found.exact
    if found.near:
        dropped[NEAR_DUPLICATE] = found.near
    sources = sum((batch.sources for batch in batches), Counter[str]())
    kept = Counter(document.meta.get("source", "") for document in documents)
    warnings = [
        f"{size} of {len(candidates)} documents count as duplicates of {candidates[first].id}"
        for first, size in found.alarms
    ]
    report = {
        "documents": {"in": sources.total(), "kept": len(documents)},
        "bytes": {
            "in": sum(batch.bytes_in for batch in batches),
            "kept": sum(len(document.text.encode()) for document in documents),
        },
        "dropped": dict(dropped),
        "sources": {name: {"in": n, "kept": kept[name]} for name, n in sources.items()},
        "skipped_filters": _filters(rules)[1],
        "warnings": warnings,
    }
    return Cleaned(documents, report)


def merge_reports(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Add up the reports of the parts of a corpus.

    A report has `documents` and `bytes` ("in" and "kept"), `dropped` (documents by reason),
    `sources` ("in" and "kept" by source), `skipped_filters` (the reason by filter) and `warnings`.
    """
    total: dict[str, Any] = {}
    for report in reports:
        _add(total, report)
    return total


def _add(total: dict[str, Any], report: dict[str, Any]) -> None:
    for key, value in report.items():
        if isinstance(value, dict):
            _add(total.setdefault(key, {}), value)
        elif isinstance(value, str):
            total[key] = value
        else:
            total[key] = total[key] + value if key in total else value
