"""Deduplication: agreement with brute force, exact copies, groups, and a labelled set of pages."""

import hashlib
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_builder.text import deduplicate
from dataset_builder.text.deduplicate import find_duplicates

PAGES = Path(__file__).parents[3] / "shared" / "data" / "near_duplicates.jsonl"
NGRAMS = Path(__file__).parent / "page_ngrams.npz"
VOCABULARY = [f"word{n}" for n in range(500)]

short_texts = st.lists(st.lists(st.sampled_from("abc"), max_size=12).map(" ".join), max_size=12)


def random_text(rng: np.random.Generator, words: int = 200) -> str:
    return " ".join(rng.choice(VOCABULARY, words))


def edited(rng: np.random.Generator, text: str, edits: int) -> str:
    words = text.split()
    for position in rng.choice(len(words), edits, replace=False):
        words[position] = "edited"
    return " ".join(words)


def brute_force_jaccard(left: str, right: str) -> float:
    a, b = (
        {tuple(words[i : i + 5]) for i in range(len(words) - 4)}
        for words in (left.split(), right.split())
    )
    return len(a & b) / len(a | b)


@pytest.fixture
def corpus() -> list[str]:
    rng = np.random.default_rng(0)
    originals = [random_text(rng) for _ in range(40)]
    copies = [edited(rng, text, edits) for text in originals[:20] for edits in (1, 4, 12)]
    return originals + copies


def partition(texts: list[str], method: str) -> set[frozenset[str]]:
    groups: dict[int, set[str]] = {}
    for text, first in zip(texts, find_duplicates(texts, method).group.tolist(), strict=True):
        groups.setdefault(first, set()).add(text)
    return {frozenset(group) for group in groups.values()}


def test_jaccard_is_exact(corpus):
    hashes = [np.unique(deduplicate.hash_ngrams(text, 5)) for text in corpus]
    for i, j in combinations(range(0, len(corpus), 3), 2):
        expected = brute_force_jaccard(corpus[i], corpus[j])
        assert deduplicate.jaccard(hashes[i], hashes[j]) == pytest.approx(expected, abs=1e-12)


def test_minhash_finds_what_brute_force_finds(corpus):
    similar = {
        (i, j)
        for i, j in combinations(range(len(corpus)), 2)
        if brute_force_jaccard(corpus[i], corpus[j]) >= 0.7
    }
    groups = deduplicate.UnionFind(len(corpus))
    for i, j in similar:
        groups.union(i, j)
    assert similar
    assert find_duplicates(corpus).group.tolist() == [groups.find(i) for i in range(len(corpus))]


def test_simhash_finds_what_brute_force_finds(corpus):
    rng = np.random.default_rng(1)
    texts = corpus + [edited(rng, random_text(rng, 3000), n) for n in (0, 3)]
    long = random_text(rng, 5000)
    texts += [long, edited(rng, long, 2), edited(rng, long, 8)]
    hashes = [int(value) for value in deduplicate.simhashes(texts)]
    near = {
        (i, j)
        for i, j in combinations(range(len(texts)), 2)
        if (hashes[i] ^ hashes[j]).bit_count() <= 4
    }
    assert near
    assert set(deduplicate.simhash_pairs(texts)) == near


def test_simhash_is_the_majority_of_each_bit():
    text = "a b c d e f g h"  # three windows of six words
    windows = [int(value) for value in deduplicate.hash_ngrams(text, 6)]
    assert len(windows) == 3
    expected = sum(
        1 << bit for bit in range(64) if sum(window >> bit & 1 for window in windows) >= 2
    )
    assert int(deduplicate.simhashes([text])[0]) == expected


def splitmix64(value: int) -> int:
    mask = 2**64 - 1
    value = (value + 0x9E3779B97F4A7C15) & mask
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & mask
    value = (value ^ value >> 27) * 0x94D049BB133111EB & mask
    return value ^ value >> 31


def test_hashes_are_the_same_on_every_machine():
    assert splitmix64(0) == 0xE220A8397B1DCDAF  # the generator's first output for seed 0
    words = ["the", "quick", "brown", "fox", "jumps", "over"]
    expected = []
    for start in range(2):
        value = 5
        for word in words[start : start + 5]:
            digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
            value = splitmix64(value ^ int.from_bytes(digest, "little"))
        expected.append(value)
    assert deduplicate.hash_ngrams("The quick\nbrown fox jumps over", 5).tolist() == expected


@pytest.mark.parametrize("method", ["minhash", "simhash", "none"])
def test_the_first_of_exact_copies_stays(method):
    rng = np.random.default_rng(2)
    a, b = random_text(rng), random_text(rng)
    found = find_duplicates([a, b, a, a, b], method)
    assert found.keep.tolist() == [0, 1]
    assert found.group.tolist() == [0, 1, 0, 0, 1]
    assert (found.exact, found.near) == (3, 0)


def test_a_chain_of_versions_is_one_group():
    rng = np.random.default_rng(3)
    chain = [random_text(rng, 400)]
    for _ in range(6):
        chain.append(edited(rng, chain[-1], 8))
    assert brute_force_jaccard(chain[0], chain[-1]) < 0.7
    assert find_duplicates(chain).keep.tolist() == [0]


def test_short_and_empty_texts():
    found = find_duplicates(["", " ", "one", "One", "two words", "", "\n"])
    assert found.keep.tolist() == [0, 1, 2, 4, 6]


def test_none_drops_exact_copies_only(corpus):
    found = find_duplicates(corpus + corpus[:3], "none")
    assert found.keep.tolist() == list(range(len(corpus)))
    assert (found.exact, found.near) == (3, 0)


def test_unknown_method():
    with pytest.raises(ValueError, match="unknown deduplication method 'md5'"):
        find_duplicates([], "md5")


def test_alarm_on_a_huge_group():
    rng = np.random.default_rng(4)
    text = random_text(rng)
    texts = [random_text(rng)] + [edited(rng, text, 1) for _ in range(150)]
    assert find_duplicates(texts).alarms == ((1, 150),)
    assert find_duplicates(texts[:100]).alarms == ()


@pytest.mark.parametrize("method", ["minhash", "simhash"])
def test_groups_do_not_depend_on_the_order(corpus, method):
    shuffled = [corpus[i] for i in np.random.default_rng(5).permutation(len(corpus))]
    assert partition(corpus, method) == partition(shuffled, method)


@settings(max_examples=50, deadline=None)
@given(short_texts, st.sampled_from(["minhash", "simhash", "none"]))
def test_what_stays_is_distinct_and_every_text_has_a_kept_one(texts, method):
    found = find_duplicates(texts, method)
    kept = [texts[index] for index in found.keep]
    assert len(set(kept)) == len(kept)
    assert set(found.group.tolist()) == set(found.keep.tolist())
    assert all(first <= index for index, first in enumerate(found.group.tolist()))
    assert found.exact + found.near + len(kept) == len(texts)
    assert find_duplicates(kept, method).keep.tolist() == list(range(len(kept)))


def test_versions_of_pages_are_told_from_other_pages():
    """The sets of 5-grams of real pages, of which only hashes travel with the project."""
    with np.load(NGRAMS) as file:
        bounds = np.cumsum(file["lengths"])[:-1]
        hashes = [part.astype(np.uint64) for part in np.split(file["hashes"], bounds)]
        expected = file["similarity"]
    pairs = list(combinations(range(len(hashes)), 2))
    found = [deduplicate.jaccard(hashes[i], hashes[j]) for i, j in pairs]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    similar = {pair for pair in pairs if deduplicate.is_similar(*(hashes[k] for k in pair))}
    assert similar == {pair for pair, value in zip(pairs, expected, strict=True) if value >= 0.7}
    assert ((expected >= 0.7) & (expected < 0.72)).sum() > 5, "it is the limit that is tried"
    buckets = deduplicate.minhash_buckets(hashes)
    proposed = {pair for bucket in buckets for pair in combinations(bucket, 2)}
    assert similar <= proposed
    assert len(proposed) < 0.1 * len(pairs)


@pytest.mark.skipif(not PAGES.exists(), reason="needs ../shared/data/near_duplicates.jsonl")
def test_precision_and_recall_on_versions_of_pages():
    texts = [json.loads(line)["text"] for line in PAGES.open(encoding="utf-8")]
    ngrams = [np.unique(deduplicate.hash_ngrams(text, 5)) for text in texts]
    similar = {
        (i, j)
        for i, j in combinations(range(len(texts)), 2)
        if deduplicate.is_similar(ngrams[i], ngrams[j])
    }
    proposed = {
        pair for bucket in deduplicate.minhash_buckets(ngrams) for pair in combinations(bucket, 2)
    }
    assert len(similar) > 250
    assert similar <= proposed
    assert len(proposed) < 0.05 * len(texts) ** 2 / 2
    by_simhash = set(deduplicate.simhash_pairs(texts))
    assert by_simhash <= similar
    assert 0.1 < len(by_simhash) / len(similar) < 0.3


@pytest.mark.parametrize("shared", [699, 700, 701, 710, 719, 720])
def test_seven_tenths_are_similar_and_less_is_not(shared):
    """Two sets of equal size of which 1,000 elements are distinct and ``shared`` in both."""
    alone = (1000 - shared) / 2
    left = np.arange(shared + int(np.floor(alone)), dtype=np.uint64)
    right = np.concatenate([left[:shared], 5000 + np.arange(np.ceil(alone), dtype=np.uint64)])
    assert deduplicate.jaccard(left, right) == shared / 1000
    assert deduplicate.is_similar(left, right) == (shared >= 700)
    assert deduplicate.is_similar(right, left) == (shared >= 700)


def test_half_of_the_windows_are_no_majority():
    text = "a b c d e f g"  # two windows of six words
    first, second = (int(value) for value in deduplicate.hash_ngrams(text, 6))
    assert first ^ second
    assert int(deduplicate.simhashes([text])[0]) == first & second


def test_four_bits_apart_are_alike_and_five_are_not(monkeypatch):
    """Wherever the bits are."""
    rng = np.random.default_rng(6)
    for distance in (0, 1, 4, 5, 6):
        for _ in range(20):
            value = int(rng.integers(0, 2**63))
            bits = rng.choice(64, distance, replace=False)
            other = value ^ sum(1 << int(bit) for bit in bits)
            hashes = np.array([value, other], np.uint64)
            monkeypatch.setattr(deduplicate, "simhashes", lambda texts, hashes=hashes: hashes)
            found = set(deduplicate.simhash_pairs(["a", "b"]))
            assert found == ({(0, 1)} if distance <= 4 else set())
