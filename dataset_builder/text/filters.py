"""The modifiers and filters that made ROOTS (BigScience), with their published bounds.

A document is first modified, then measured by one filter after another; the first filter whose
measure is out of bounds gives the reason for dropping it. Words are what white space separates,
in lower case, stripped of punctuation, digits and emoji.

Source: Laurençon et al. 2022 (arXiv 2303.03915), section on OSCAR, and the parameters released
with it for English and for the other languages.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from dataset_builder.text.models import load_language_identifier, load_perplexity

WORD_LISTS = Path(__file__).parent / "words"
LINK_PARTS = ("http", "www", ".com", "href", "//")
MAX_WORD_LENGTH = 25  # characters
CHARACTER_NGRAM = 10  # characters
WORD_NGRAM = 5  # words

SPACE = re.compile(r"[^\S\n]")
NEWLINE = re.compile(r"\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")


@dataclass(frozen=True)
class Bounds:
    """The least and greatest values that a kept document has, both inclusive."""

    min_words: int
    max_words: int
    max_character_repetition: float
    max_word_repetition: float
    max_special_characters: float
    min_stop_words: float
    max_flagged_words: float
    min_language_probability: float
    max_perplexity: float


ENGLISH = Bounds(20, 100_000, 0.106, 0.19, 0.4, 0.3, 0.01, 0.80, 1500)
OTHER_LANGUAGES = Bounds(10, 100_000, 0.2, 0.3, 0.4, 0.1, 0.1, 0.70, 10_000)

Measure = Callable[[str, Sequence[str]], float]


@dataclass(frozen=True)
class Filter:
    """Keeps a document whose measure lies in [low, high]; `name` is the reason otherwise."""

    name: str
    measure: Measure
    low: float = -math.inf
    high: float = math.inf

    def __call__(self, text: str, words: Sequence[str]) -> str | None:
        """Why a text (already modified) is dropped, or None where it stays."""
        return None if self.low <= self.measure(text, words) <= self.high else self.name


# ---------------------------------------------------------------- modifiers


def modify(text: str) -> str:
    """Make white space uniform, then drop words with link parts and words that are too long.

    Every horizontal space becomes " " and every line break "\\n"; lines and indentation stay.
    """
    text = SPACE.sub(" ", NEWLINE.sub("\n", text))
    lines = (" ".join(filter(_keep_word, line.split(" "))) for line in text.split("\n"))
    return "\n".join(lines).strip()


def _keep_word(word: str) -> bool:
    if any(part in word for part in LINK_PARTS):
        return False
    return len(word) <= MAX_WORD_LENGTH or len(strip_word(word)) <= MAX_WORD_LENGTH


def is_special(character: str) -> bool:
    """Whether a character is punctuation, a digit, a symbol (emoji), white space or a control."""
    category = unicodedata.category(character)
    return category[0] in "PSZC" or category in ("Nd", "No")


@lru_cache(maxsize=1 << 18)
def strip_word(word: str) -> str:
    """`word` without the special characters at its two ends."""
    start, stop = 0, len(word)
    while start < stop and is_special(word[start]):
        start += 1
    while stop > start and is_special(word[stop - 1]):
        stop -= 1
    return word[start:stop]


def split_words(text: str) -> list[str]:
    """The words that the filters look at."""
    return [word for word in map(strip_word, text.lower().replace("’", "'").split()) if word]


# ---------------------------------------------------------------- measures


def count_words(text: str, words: Sequence[str]) -> float:
    """The number of words."""
    return len(words)


def character_repetition(text: str, words: Sequence[str], n: int = CHARACTER_NGRAM) -> float:
    """The share of the text's n-grams of characters that its most frequent ones make up, in [0, 1].

    The most frequent ones are the sqrt(distinct) first, but none that occurs only once.
    """
    counts = Counter(text[start : start + n] for start in range(len(text) - n + 1))
    if not counts:
        return 0.0
    frequencies = sorted(counts.values(), reverse=True)
    singletons = sum(1 for frequency in frequencies if frequency == 1)
    top = min(math.isqrt(len(frequencies)), len(frequencies) - singletons)
    return sum(frequencies[:top]) / (len(text) - n + 1)


def word_repetition(text: str, words: Sequence[str], n: int = WORD_NGRAM) -> float:
    """The share of the text's n-grams of words that occur more than once, in [0, 1]."""
    counts = Counter(zip(*(words[start:] for start in range(n)), strict=False))
    if not counts:
        return 0.0
    return sum(count for count in counts.values() if count > 1) / (len(words) - n + 1)


def special_characters(text: str, words: Sequence[str]) -> float:
    """The share of characters that are special (white space counts), in [0, 1]; 0 if empty."""
    special = sum(count for character, count in Counter(text).items() if is_special(character))
    return special / len(text) if text else 0.0


def listed_words(text: str, words: Sequence[str], listed: frozenset[str]) -> float:
    """The share of words that are in a list, in [0, 1]; 0 without words."""
    return sum(word in listed for word in words) / len(words) if words else 0.0


# ---------------------------------------------------------------- the chain


def build_filters(
    language: str, lid_model: str | None = None, kenlm_model: str | None = None
) -> tuple[list[Filter], dict[str, str]]:
    """The filters of a language in ROOTS order, and the skipped ones with the reason why.

    Args:
        language: an ISO 639 code such as "en".
        lid_model: path of fastText's lid.176 model; without it, that filter is skipped.
        kenlm_model: path of the KenLM 5-gram model of Wikipedia in `language`, with its
            SentencePiece model beside it; without it, that filter is skipped.

    Raises:
        UserError: a model is given but it, or the package that reads it, is missing.
    """
    bounds = ENGLISH if language == "en" else OTHER_LANGUAGES
    filters = [
        Filter("words", count_words, bounds.min_words, bounds.max_words),
        Filter("character_repetition", character_repetition, high=bounds.max_character_repetition),
        Filter("word_repetition", word_repetition, high=bounds.max_word_repetition),
        Filter("special_characters", special_characters, high=bounds.max_special_characters),
    ]
    skipped: dict[str, str] = {}
    stop_words = read_word_list("stopwords", language)
    if stop_words:
        measure = partial(listed_words, listed=stop_words)
        filters.append(Filter("stop_words", measure, low=bounds.min_stop_words))
    else:
        skipped["stop_words"] = f"no list of stop words for {language!r}"
    flagged_words = read_word_list("flagged", language)
    if flagged_words:
        measure = partial(listed_words, listed=flagged_words)
        filters.append(Filter("flagged_words", measure, high=bounds.max_flagged_words))
    else:
        skipped["flagged_words"] = f"no list of flagged words for {language!r}"
    if lid_model:
        measure = load_language_identifier(lid_model, language)
        filters.append(Filter("language", measure, low=bounds.min_language_probability))
    else:
        skipped["language"] = "lid_model is not set"
    if kenlm_model:
        measure = load_perplexity(kenlm_model)
        filters.append(Filter("perplexity", measure, high=bounds.max_perplexity))
    else:
        skipped["perplexity"] = "kenlm_model is not set"
    return filters, skipped


def read_word_list(kind: str, language: str) -> frozenset[str]:
    """The words of the list `kind` ("stopwords" or "flagged"), none where there is no list."""
    path = WORD_LISTS / f"{kind}_{language}.txt"
    return frozenset(path.read_text(encoding="utf-8").split()) if path.is_file() else frozenset()


def first_reason(text: str, filters: Iterable[Filter]) -> str | None:
    """Why `text` (already modified) is dropped, or None where every filter keeps it."""
    words = split_words(text)
    return next((reason for keep in filters if (reason := keep(text, words))), None)
