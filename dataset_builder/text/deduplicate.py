"""Find documents that are nearly the same, and keep the first of each group.

- `minhash` (the default): MinHash with 50 bands of 4 rows over word 5-grams proposes pairs, and
  each pair is verified by its exact Jaccard similarity (Broder 1997; banding as in Leskovec et al.,
  Mining of Massive Datasets, chapter 3).
- `simhash`: 64-bit SimHash over windows of 6 words, at most 4 bits apart, as ROOTS was made
  (Charikar 2002; Laurençon et al. 2022, arXiv 2303.03915).

Documents that are byte for byte the same are grouped first, by either method. Groups are the
connected components of the found pairs.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import rensa
from numpy.typing import NDArray

from pipeline.stage import progress

NGRAM = 5  # words
BANDS, ROWS = 50, 4
MIN_JACCARD = 0.7
MINHASH_SEED = 42
SIMHASH_WINDOW = 6  # words
SIMHASH_MAX_DISTANCE = 4  # bits of 64
SKETCH_BATCH = 4096  # documents sketched at a time
# A group beyond both is more likely a fault of the method than a text copied that often.
ALARM_DOCUMENTS = 100
ALARM_SHARE = 0.01

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Duplicates:
    """What the search found in `n` documents.

    Attributes:
        keep: int64 [kept], ascending indices of the documents that stay.
        group: int64 [n], for each document the index of the first one of its group.
        exact: how many documents repeat another one byte for byte.
        near: how many further documents are dropped.
        alarms: (index of the first document, size) of each group that is suspiciously large.
    """

    keep: NDArray[np.int64]
    group: NDArray[np.int64]
    exact: int
    near: int
    alarms: tuple[tuple[int, int], ...]


class UnionFind:
    """Disjoint sets of 0 … n-1 whose representative is their smallest member."""

    def __init__(self, n: int) -> None:
        self.parent = list(range(n))

    def find(self, member: int) -> int:
        """The smallest member of the set that `member` is in."""
        while self.parent[member] != member:
            self.parent[member] = self.parent[self.parent[member]]
            member = self.parent[member]
        return member

    def union(self, left: int, right: int) -> None:
        """Join the sets of two members."""
        left, right = self.find(left), self.find(right)
        self.parent[max(left, right)] = min(left, right)


def find_duplicates(texts: Sequence[str], method: str = "minhash") -> Duplicates:
    """Group duplicates among `texts` and keep the first of each group.

    Args:
        texts: the documents, in order of preference.
        method: "minhash", "simhash", or "none" (only exact duplicates are dropped).

    Raises:
        ValueError: an unknown method.
    """
    if method not in ("minhash", "simhash", "none"):
        raise ValueError(f"unknown deduplication method {method!r}")
    first_of: dict[bytes, int] = {}
    groups = UnionFind(len(texts))
    for index, text in enumerate(texts):
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        groups.union(first_of.setdefault(key, index), index)
    distinct = list(first_of.values())
    if method == "minhash":
        group_by_minhash([texts[index] for index in distinct], distinct, groups)
    elif method == "simhash":
        group_by_simhash([texts[index] for index in distinct], distinct, groups)
    group = np.array([groups.find(index) for index in range(len(texts))], dtype=np.int64)
    keep, sizes = np.unique(group, return_counts=True)
    alarm = max(ALARM_DOCUMENTS, ALARM_SHARE * len(texts))
    return Duplicates(
        keep=keep,
        group=group,
        exact=len(texts) - len(distinct),
        near=len(distinct) - len(keep),
        alarms=tuple((int(keep[k]), int(sizes[k])) for k in np.flatnonzero(sizes > alarm)),
    )


# ---------------------------------------------------------------- n-grams of words


@lru_cache(maxsize=1 << 20)
def hash_word(word: str) -> int:
    """A 64-bit hash that is the same on every machine."""
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def hash_ngrams(text: str, n: int) -> Hashes:
    """Hashes of the n-grams of a text's lower-case words, in order: uint64 [max(1, words-n+1)].

    A text shorter than n words is one n-gram, and one without words has none.
    """
    words = np.fromiter(map(hash_word, text.lower().split()), dtype=np.uint64)
    if not len(words):
        return words
    n = min(n, len(words))
    hashes = np.full(len(words) - n + 1, n, dtype=np.uint64)
    for offset in range(n):
        hashes = _mix(hashes ^ words[offset : offset + len(hashes)])
    return hashes


def _mix(values: Hashes) -> Hashes:
    """The finaliser of splitmix64 (Steele et al. 2014) with its increment: every bit counts."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def jaccard(left: Hashes, right: Hashes) -> float:
    """Shared elements over all elements of two sets of distinct hashes, 0 where one is empty."""
    if not len(left) or not len(right):
        return 0.0
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared / (len(left) + len(right) - shared)


# ---------------------------------------------------------------- MinHash


def group_by_minhash(texts: Sequence[str], members: Sequence[int], groups: UnionFind) -> None:
    """Unite the members of `groups` whose texts share >= 70 % of their word 5-grams.

    Args:
        texts: the documents.
        members: the member of `groups` that each document is.
    """
    ngrams = [np.unique(hash_ngrams(text, NGRAM)) for text in progress(texts, "word n-grams")]
    different: set[tuple[int, int]] = set()

    def similar(left: int, right: int) -> bool:
        if (left, right) in different:
            return False
        if is_similar(ngrams[left], ngrams[right]):
            return True
        different.add((left, right))
        return False

    for bucket in minhash_buckets(ngrams):
        # Comparing with whole groups spares most pairs where a text has many copies.
        seen: list[list[int]] = []
        for new in bucket:
            home: list[int] | None = None
            for group in seen:
                same = groups.find(members[new]) == groups.find(members[group[0]])
                if same or any(similar(old, new) for old in group):
                    groups.union(members[group[0]], members[new])
                    home = home or group
            if home is None:
                seen.append([new])
            else:
                home.append(new)


def is_similar(left: Hashes, right: Hashes) -> bool:
    """Whether the Jaccard similarity of two sets of distinct hashes is at least 0.7."""
    # It is at most the ratio of the sets' sizes, which is far cheaper to see.
    if min(len(left), len(right)) < MIN_JACCARD * max(len(left), len(right)):
        return False
    return jaccard(left, right) >= MIN_JACCARD


def minhash_buckets(ngrams: Sequence[Hashes]) -> Iterator[list[int]]:
    """Ascending indices of documents whose signatures agree in a whole band, band after band.

    Args:
        ngrams: the distinct hashes of each document's n-grams; empty documents meet no other.
    """
    signatures = minhash_signatures(ngrams)
    filled = np.array([len(hashes) > 0 for hashes in ngrams], dtype=bool)
    for band in progress(range(BANDS), "bands of MinHash"):
        rows = np.ascontiguousarray(signatures[:, band * ROWS : (band + 1) * ROWS])
        yield from _equal_rows(rows.view(np.uint64), filled)


def minhash_signatures(ngrams: Sequence[Hashes]) -> NDArray[np.uint32]:
    """MinHash signatures of sets of hashes: uint32 [documents, BANDS * ROWS]."""
    signatures = np.empty((len(ngrams), BANDS * ROWS), dtype=np.uint32)
    for start in range(0, len(ngrams), SKETCH_BATCH):
        batch = ngrams[start : start + SKETCH_BATCH]
        offsets = np.cumsum([0, *map(len, batch)]).tolist()
        sketch = rensa.RMinHash.digest_matrix_from_flat_token_hashes  # pyright: ignore
        matrix = sketch(np.concatenate(batch), offsets, BANDS * ROWS, MINHASH_SEED)
        signatures[start : start + len(batch)] = matrix.to_rows()
    return signatures


def _equal_rows(rows: NDArray[np.uint64], wanted: NDArray[np.bool_]) -> Iterator[list[int]]:
    """Ascending indices of the wanted rows that are equal, for each value that occurs twice.

    Args:
        rows: uint64 [documents, columns]
        wanted: bool [documents]
    """
    indices = np.flatnonzero(wanted)
    if len(indices) < 2:
        return
    indices = indices[np.lexsort(rows[indices].T)]
    changes = np.any(rows[indices][1:] != rows[indices][:-1], axis=1)
    for bucket in np.split(indices, np.flatnonzero(changes) + 1):
        if len(bucket) > 1:
            yield bucket.tolist()


# ---------------------------------------------------------------- SimHash


def group_by_simhash(texts: Sequence[str], members: Sequence[int], groups: UnionFind) -> None:
    """Unite the members of `groups` whose texts' SimHashes differ in at most 4 bits.

    Args:
        texts: the documents.
        members: the member of `groups` that each document is.
    """
    for left, right in simhash_pairs(texts):
        groups.union(members[left], members[right])


def simhash_pairs(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs (i < j) at most 4 bits apart; a pair may come more than once."""
    hashes = simhashes(texts)
    filled = np.array([bool(text.strip()) for text in texts], dtype=bool)
    # Of 5 parts of 64 bits, 4 different bits leave at least one as it was (Manku et al. 2007).
    for part in _bit_parts(SIMHASH_MAX_DISTANCE + 1):
        for bucket in _equal_rows((hashes & part)[:, None], filled):
            values = hashes[bucket]
            for position, left in enumerate(bucket[:-1]):
                distance = np.bitwise_count(values[position + 1 :] ^ values[position])
                for offset in np.flatnonzero(distance <= SIMHASH_MAX_DISTANCE):
                    yield left, bucket[position + 1 + int(offset)]


def simhashes(texts: Iterable[str]) -> Hashes:
    """SimHash of each text: uint64 [documents]. A bit is 1 where most windows' hashes have it."""
    shifts = np.arange(64, dtype=np.uint64)
    values = []
    for text in texts:
        windows = hash_ngrams(text, SIMHASH_WINDOW)
        ones = np.zeros(64, dtype=np.int64)
        for start in range(0, len(windows), SKETCH_BATCH):
            batch = windows[start : start + SKETCH_BATCH, None]
            ones += ((batch >> shifts) & np.uint64(1)).sum(axis=0, dtype=np.int64)
        bits = (2 * ones > len(windows)).astype(np.uint64)
        values.append(np.bitwise_or.reduce(bits << shifts))
    return np.array(values, dtype=np.uint64)


def _bit_parts(count: int) -> list[np.uint64]:
    """Masks that split 64 bits into `count` parts of nearly equal length."""
    edges = [64 * part // count for part in range(count + 1)]
    return [np.uint64((1 << stop) - (1 << start)) for start, stop in pairwise(edges)]
