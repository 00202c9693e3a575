"""Cuts from reference data what the tests of text cleaning need: numbers, no one's texts.

    python tests/dataset_builder/make_text_cases.py <folder>

writes beside itself

- ``page_ngrams.npz``, of ``near_duplicates.jsonl`` (versions of pages of documentation): for
  ``PAGES`` pages the set of their word 5-grams, each as the lower 32 bits of its hash, and of all
  pairs the Jaccard similarity of the sets of 5-grams themselves;
- ``roots_probes.json``, of ``roots_decisions.jsonl``: short made-up texts as the original ROOTS
  filters measured them.
"""

import json
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from dataset_builder.text.deduplicate import hash_ngrams

HERE = Path(__file__).parent
NGRAMS, PROBES = HERE / "page_ngrams.npz", HERE / "roots_probes.json"
PAGES = 60
LANGUAGES = ("en", "fr", "es")
"""Of the probes' languages, those that have lists of stop words here."""
MEASURES = ("words", "character_repetition", "word_repetition", "special_characters")

Ngrams = set[tuple[str, ...]]


def ngrams_of(text: str) -> Ngrams:
    """The word 5-grams of a text."""
    words = text.lower().split()
    return {tuple(words[start : start + 5]) for start in range(len(words) - 4)}


def similarity(left: Ngrams, right: Ngrams) -> float:
    """Jaccard's."""
    return len(left & right) / len(left | right)


def choose(pages: list[Ngrams]) -> list[int]:
    """The pages of the pairs that are the nearest to 0.7, short ones only."""
    short = [k for k, page in enumerate(pages) if 50 < len(page) < 600]
    pairs = {pair: similarity(*(pages[k] for k in pair)) for pair in combinations(short, 2)}
    chosen: dict[int, None] = {}
    for pair in sorted(pairs, key=lambda pair: abs(pairs[pair] - 0.7)):
        if len(chosen) < PAGES:
            chosen |= dict.fromkeys(pair)
    return sorted(chosen)


def write_ngrams(source: Path) -> None:
    """Write ``page_ngrams.npz``."""
    texts = [json.loads(line)["text"] for line in source.open(encoding="utf-8")]
    pages = [ngrams_of(text) for text in texts]
    chosen = choose(pages)
    hashes = [np.unique(hash_ngrams(texts[k], 5).astype(np.uint32)) for k in chosen]
    assert [len(page) for page in hashes] == [len(pages[k]) for k in chosen], "no two are the same"
    similar = [similarity(pages[i], pages[j]) for i, j in combinations(chosen, 2)]
    np.savez_compressed(
        NGRAMS,
        hashes=np.concatenate(hashes),
        lengths=np.array([len(page) for page in hashes], np.int32),
        similarity=np.array(similar),
    )


def write_probes(source: Path) -> None:
    """Write ``roots_probes.json``."""
    probes: list[dict[str, Any]] = []
    for line in source.open(encoding="utf-8"):
        row = json.loads(line)
        if "text" in row and row["language"] in LANGUAGES:
            values = {name: row["values"][name] for name in MEASURES}
            kept = {name: row[name] for name in ("language", "text", "modified", "reason")}
            probes.append({**kept, "values": values})
    PROBES.write_text(json.dumps(probes, indent=1) + "\n", encoding="utf-8")


def main(data: Path) -> None:
    """Write both."""
    write_ngrams(data / "near_duplicates.jsonl")
    write_probes(data / "roots_decisions.jsonl")
    for path in (NGRAMS, PROBES):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
