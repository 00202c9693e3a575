"""The two filters that need a model from elsewhere: language identification and perplexity.

Neither model ships with this project, nor do the packages that read them; both are used only when
the user names their files.
"""

import importlib
import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from pipeline.errors import UserError

Measure = Callable[[str, Sequence[str]], float]
DIGIT = re.compile(r"\d")
# What the models' training text had in place of typographic punctuation.
PLAIN_PUNCTUATION = str.maketrans(
    {
        "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "´": "'",
        "–": "-", "—": " - ", "…": "...", "，": ",", "。": ".", "、": ",", "：": ":", "；": ";",
        "？": "?", "！": "!", "（": "(", "）": ")", "•": "-", "％": "%",
    }
)  # fmt: skip


def load_language_identifier(path: str, language: str) -> Measure:
    """A measure: the probability that a text is in `language`, by fastText's lid.176.

    Raises:
        UserError: the model or the fasttext package is missing, or the model cannot be read.
    """
    _require_file("lid_model", path)
    fasttext = _require_package("fasttext", "lid_model")
    try:
        model = fasttext.load_model(path)
    except ValueError as error:
        raise UserError(f"lid_model: {path} is not a fastText model") from error

    def probability(text: str, words: Sequence[str]) -> float:
        # A list, as fastText's path for one string does not work with numpy 2.
        labels, probabilities = model.predict([text.replace("\n", " ")])
        found = str(labels[0][0]).removeprefix("__label__")
        return float(probabilities[0][0]) if found == language else 0.0

    return probability


def load_perplexity(path: str) -> Measure:
    """A measure: the perplexity of a text under a KenLM model over SentencePiece tokens.

    Args:
        path: "<language>.arpa.bin"; "<language>.sp.model" stands beside it. The published bounds
            hold for the 5-gram models of Wikipedia that CCNet introduced (Wenzek et al. 2020,
            arXiv 1911.00359), and for no other model.

    Raises:
        UserError: a model or the packages kenlm and sentencepiece are missing.
    """
    _require_file("kenlm_model", path)
    tokens_path = str(Path(path).with_name(Path(path).name.split(".")[0] + ".sp.model"))
    _require_file("kenlm_model", tokens_path)
    kenlm = _require_package("kenlm", "kenlm_model")
    sentencepiece = _require_package("sentencepiece", "kenlm_model")
    try:
        model = kenlm.Model(path)
        tokenizer = sentencepiece.SentencePieceProcessor(model_file=tokens_path)
    except (OSError, RuntimeError) as error:
        raise UserError(f"kenlm_model: {path} or {tokens_path} cannot be read") from error

    def perplexity(text: str, words: Sequence[str]) -> float:
        tokens = tokenizer.encode(normalize(text), out_type=str)
        # One more than the tokens, as the model also scores the end of the sentence.
        return math.pow(10.0, min(-model.score(" ".join(tokens)) / (len(tokens) + 1), 300.0))

    return perplexity


def normalize(text: str) -> str:
    """`text` as CCNet's models expect it: lower case, no accents, digits as 0, plain punctuation.

    Characters that do not print are dropped; white space becomes single spaces.
    """
    text = " ".join(text.lower().split()).translate(PLAIN_PUNCTUATION)
    decomposed = unicodedata.normalize("NFD", text)
    kept = (c for c in decomposed if unicodedata.category(c) not in ("Mn", "Cc", "Cf"))
    return DIGIT.sub("0", "".join(kept))


def _require_file(key: str, path: str) -> None:
    if not Path(path).is_file():
        raise UserError(f"{key}: no file {path}; download the model first, or leave {key} empty")


def _require_package(name: str, key: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{key} needs the package {name}: pip install {name}") from error
