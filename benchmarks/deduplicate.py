"""Precision and recall of near-duplicate search against the exact answer, and its speed.

    python benchmarks/deduplicate.py pages.jsonl

Each line is a page with the keys `page` and `text`; rows of one `page` are versions of the same
document. The exact answer is every pair with a word 5-gram Jaccard similarity of at least 0.7.
"pairs" are what a method finds, "groups" all pairs within the groups that these pairs connect.
"""

import argparse
import json
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np

from dataset_builder.text.deduplicate import (
    MIN_JACCARD,
    NGRAM,
    find_duplicates,
    hash_ngrams,
    jaccard,
    minhash_buckets,
    simhash_pairs,
)

Pairs = set[tuple[int, int]]


def minhash_pairs(texts: list[str]) -> Pairs:
    """The pairs that MinHash proposes and the exact similarity confirms."""
    ngrams = [np.unique(hash_ngrams(text, NGRAM)) for text in texts]
    candidates = {pair for bucket in minhash_buckets(ngrams) for pair in combinations(bucket, 2)}
    return {(i, j) for i, j in candidates if jaccard(ngrams[i], ngrams[j]) >= MIN_JACCARD}


def group_pairs(texts: list[str], method: str) -> Pairs:
    """All pairs of documents that share a group."""
    members: dict[int, list[int]] = {}
    for index, first in enumerate(find_duplicates(texts, method).group.tolist()):
        members.setdefault(first, []).append(index)
    return {pair for indices in members.values() for pair in combinations(indices, 2)}


def similar_pairs(texts: list[str]) -> Pairs:
    """All pairs that are similar enough, by comparing every document with every other one."""
    ngrams = [np.unique(hash_ngrams(text, NGRAM)) for text in texts]
    pairs = combinations(range(len(texts)), 2)
    return {(i, j) for i, j in pairs if jaccard(ngrams[i], ngrams[j]) >= MIN_JACCARD}


def main() -> None:
    """Print one line a method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", type=Path)
    with parser.parse_args().pages.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    texts, pages = [row["text"] for row in rows], [row["page"] for row in rows]
    start = time.perf_counter()
    similar = similar_pairs(texts)
    baseline = time.perf_counter() - start
    same_page = {(i, j) for i, j in combinations(range(len(rows)), 2) if pages[i] == pages[j]}
    print(f"{len(texts)} documents, {len(similar)} similar pairs, all pairs in {baseline:.2f} s")
    methods: dict[str, Callable[[list[str]], Pairs]] = {
        "minhash pairs": minhash_pairs,
        "minhash groups": lambda texts: group_pairs(texts, "minhash"),
        "simhash pairs": lambda texts: set(simhash_pairs(texts)),
        "simhash groups": lambda texts: group_pairs(texts, "simhash"),
    }
    for name, find in methods.items():
        start = time.perf_counter()
        pairs = find(texts)
        seconds = time.perf_counter() - start
        print(
            f"{name:14}  P {len(pairs & similar) / max(1, len(pairs)):.3f}"
            f"  R {len(pairs & similar) / max(1, len(similar)):.3f}"
            f"  R(same page) {len(pairs & same_page) / max(1, len(same_page)):.3f}"
            f"  {seconds:.2f} s, {baseline / seconds:.1f}x all pairs"
        )


if __name__ == "__main__":
    main()
