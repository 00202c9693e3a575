"""The ROOTS modifiers and filters: values by hand, bounds, and what holds for every text."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_builder.text import filters, models
from pipeline.errors import UserError

PROSE = (
    "The old lighthouse stood at the end of the harbour, and every evening its keeper would climb "
    "the narrow stairs to light the lamp before any of the boats had come home from the sea."
)


def words_of(text: str) -> list[str]:
    return filters.split_words(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abcdefghijkl", 0.0),  # 3 different 10-grams, none repeated
        ("abcdefghij" * 2, 2 / 11),  # of 10 different ones only the first comes twice
        ("abcdefghij" * 3, 7 / 21),  # the isqrt(10) = 3 most frequent come 3, 2 and 2 times
        ("a" * 12, 1.0),
        ("too short", 0.0),
        ("", 0.0),
    ],
)
def test_character_repetition_by_hand(text, expected):
    assert filters.character_repetition(text, []) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b c d e f g", 0.0),
        ("a b c d e a b c d e", 2 / 6),  # one of five different 5-grams comes twice
        ("x " * 9, 1.0),
        ("a b c d", 0.0),  # no 5-gram at all
    ],
)
def test_word_repetition_by_hand(text, expected):
    assert filters.word_repetition(text, words_of(text)) == pytest.approx(expected, abs=1e-12)


def test_special_characters_are_punctuation_digits_symbols_and_spaces():
    assert filters.special_characters("ab 1!", []) == pytest.approx(3 / 5)
    assert filters.special_characters("é🎉日€", []) == pytest.approx(2 / 4)


def test_words_are_lower_case_and_stripped_at_both_ends():
    assert words_of("«Well», (42) it’s 🎉FINE!! rock'n'roll 3d --") == [
        "well",
        "it's",
        "fine",
        "rock'n'roll",
        "d",
    ]


def test_modifiers():
    text = "see\u00a0http://a.b\tor www.c.de\r\nat site.com, <a href=x>\n  a//b " + "x" * 26
    assert filters.modify(text) == "see or\nat <a"
    assert filters.modify("(" + "x" * 25 + ")") == "(" + "x" * 25 + ")"
    assert filters.modify("keep\n    the indentation") == "keep\n    the indentation"


@pytest.mark.parametrize("value", [0.2, 0.5])
def test_bounds_are_inclusive(value):
    keep = filters.Filter("name", lambda text, words: value, low=0.2, high=0.5)
    assert keep("", []) is None


@pytest.mark.parametrize("value", [0.19, 0.51, float("nan")])
def test_out_of_bounds_gives_the_name(value):
    keep = filters.Filter("name", lambda text, words: value, low=0.2, high=0.5)
    assert keep("", []) == "name"


def test_published_bounds():
    assert filters.Bounds(20, 100_000, 0.106, 0.19, 0.4, 0.3, 0.01, 0.8, 1500) == filters.ENGLISH
    assert (
        filters.Bounds(10, 100_000, 0.2, 0.3, 0.4, 0.1, 0.1, 0.7, 10_000) == filters.OTHER_LANGUAGES
    )


def test_order_of_the_filters():
    chain, skipped = filters.build_filters("en")
    assert [keep.name for keep in chain] == [
        "words",
        "character_repetition",
        "word_repetition",
        "special_characters",
        "stop_words",
        "flagged_words",
    ]
    assert skipped == {
        "language": "lid_model is not set",
        "perplexity": "kenlm_model is not set",
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, None),
        ("only a few words", "words"),
        ("the cat sat on the mat and " * 10, "character_repetition"),
        (" ".join(f"{word} {n}{n}{n}{n}" for n, word in enumerate(PROSE.split())), "special"),
        (" ".join(f"noun{chr(97 + n)}verb{chr(98 + n)}" for n in range(24)), "stop_words"),
        (PROSE + " porn", "flagged_words"),
    ],
)
def test_each_reason(text, reason):
    found = filters.first_reason(filters.modify(text), filters.build_filters("en")[0])
    assert found == reason or (reason and found and found.startswith(reason))


def test_other_languages_have_wider_bounds():
    french = "Le phare se dresse au bout du port, et chaque soir"  # 11 words
    chain, skipped = filters.build_filters("fr")
    assert filters.first_reason(french, chain) is None
    assert filters.first_reason(french, filters.build_filters("en")[0]) == "words"
    assert "flagged_words" in skipped


def test_a_language_without_lists_skips_their_filters():
    chain, skipped = filters.build_filters("sw")
    assert {"stop_words", "flagged_words"} <= set(skipped)
    assert len(chain) == 4


@given(st.text())
def test_no_text_breaks_a_filter_and_ratios_stay_in_0_1(text):
    text = filters.modify(text)
    words = words_of(text)
    for keep in filters.build_filters("en")[0]:
        measure = keep.measure(text, words)
        assert 0 <= measure <= (len(text) if keep.name == "words" else 1)
        assert keep(text, words) in (None, keep.name)


@given(st.text(alphabet=st.sampled_from("ab .\n\t\r/hwcom\u2003\x85😀1"), max_size=60))
def test_modify_is_idempotent_and_leaves_one_kind_of_space(text):
    modified = filters.modify(text)
    assert filters.modify(modified) == modified
    assert {c for c in modified if c.isspace()} <= {" ", "\n"}
    assert not any(part in modified for part in filters.LINK_PARTS)


@given(st.lists(st.sampled_from(["the", "of", "cat", "fish"]), min_size=1))
def test_listed_words_is_a_share(words):
    listed = frozenset({"the", "of"})
    expected = sum(word in ("the", "of") for word in words) / len(words)
    assert filters.listed_words("", words, listed) == pytest.approx(expected)


# ---------------------------------------------------------------- the original
PROBES = json.loads(Path(__file__).with_name("roots_probes.json").read_text(encoding="utf-8"))
OURS = ("-----", "foo//", "a\tb", "\u2003", "ø")
"""What is in the probes that are modified, or counted, otherwise here: rules and link parts alone,
lines that stay lines, white space that is not collapsed, letters that count as symbols there."""


def test_probes_are_enough():
    assert len(PROBES) == 25
    assert {probe["language"] for probe in PROBES} == {"en", "fr", "es"}
    assert {probe["reason"] for probe in PROBES} > {None, "words", "character_repetition"}
    assert sum(any(part in probe["text"] for part in OURS) for probe in PROBES) == len(OURS)


@pytest.mark.parametrize("probe", PROBES)
def test_probes_are_measured_as_the_original_filters_measure_them(probe):
    text = probe["modified"]
    if not any(part in probe["text"] for part in OURS):
        assert filters.modify(probe["text"]) == text
    words = words_of(text)
    measures = {
        "words": filters.count_words,
        "character_repetition": filters.character_repetition,
        "word_repetition": filters.word_repetition,
        "special_characters": filters.special_characters,
    }
    if "ø" not in text:
        found = {name: measure(text, words) for name, measure in measures.items()}
        assert found == pytest.approx(probe["values"], abs=1e-6)
    chain, _ = filters.build_filters(probe["language"])
    assert filters.first_reason(text, chain) == probe["reason"]


# ---------------------------------------------------------------- models


def test_language_identifier(monkeypatch, tmp_path):
    model = SimpleNamespace(predict=lambda lines: ([["__label__en"]], [[0.83]]))
    monkeypatch.setitem(sys.modules, "fasttext", SimpleNamespace(load_model=lambda path: model))
    path = tmp_path / "lid.176.bin"
    path.touch()
    assert models.load_language_identifier(str(path), "en")("a\nb", []) == 0.83
    assert models.load_language_identifier(str(path), "fr")("a\nb", []) == 0.0


def test_perplexity_counts_the_end_of_the_sentence(monkeypatch, tmp_path):
    tokenizer = SimpleNamespace(encode=lambda text, out_type: text.split())
    model = SimpleNamespace(score=lambda sentence: -2.5 * (len(sentence.split()) + 1))
    monkeypatch.setitem(sys.modules, "kenlm", SimpleNamespace(Model=lambda path: model))
    monkeypatch.setitem(
        sys.modules,
        "sentencepiece",
        SimpleNamespace(SentencePieceProcessor=lambda model_file: tokenizer),
    )
    (tmp_path / "en.arpa.bin").touch()
    (tmp_path / "en.sp.model").touch()
    perplexity = models.load_perplexity(str(tmp_path / "en.arpa.bin"))
    assert perplexity("four words are here", []) == pytest.approx(10**2.5)


def test_normalize_for_the_language_model():
    assert models.normalize("Élan  “42”\n—\x07ok…") == 'elan "00"  - ok...'


def test_a_missing_model_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="lid_model: no file"):
        filters.build_filters("en", lid_model=str(tmp_path / "lid.176.bin"))
    (tmp_path / "en.arpa.bin").touch()
    with pytest.raises(UserError, match=r"kenlm_model: no file .*en\.sp\.model"):
        filters.build_filters("en", kenlm_model=str(tmp_path / "en.arpa.bin"))
    monkeypatch.setitem(sys.modules, "fasttext", None)
    with pytest.raises(UserError, match="pip install fasttext"):
        filters.build_filters("en", lid_model=str(tmp_path / "en.arpa.bin"))
