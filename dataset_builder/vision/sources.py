"""The sources of images with texts: drawn here, a folder of files, or a dataset of the Hub.

A source numbers its candidates; `example(split, index)` is the same whoever asks and in whatever
order, and raises `Rejected` with a reason for a candidate that cannot be used.
"""

from __future__ import annotations

import hashlib
import json
import threading
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dataset_builder.vision.captions import caption
from dataset_builder.vision.fetch import fetch
from dataset_builder.vision.grids import draw_scene, render
from dataset_builder.vision.images import MAX_BYTES, Rejected, checked_image, encode_png
from dataset_builder.vision.questions import ask, question_text
from pipeline.content import checksum
from pipeline.engines.versions import package
from pipeline.errors import UserError
from pipeline.seeds import sequence
from pipeline.settings import VisionCorpus

MAX_TEXT = 2000  # characters: what four contexts of the model hold
CAPTIONS_FILE = "captions.jsonl"
IMAGE_COLUMNS = ("image", "images", "jpg", "png")
URL_COLUMNS = ("image_url", "url")
TEXT_COLUMNS = ("caption", "text", "sentence")
QUESTION_COLUMNS = ("question",)
ANSWER_COLUMNS = ("answers", "answer")


@dataclass(frozen=True)
class Example:
    """An encoded picture, its text, and the kind of text that the report counts it under."""

    image: bytes
    text: str
    kind: str


class Source(Protocol):
    """Candidates by split ("train" or "test") and number."""

    corpus: VisionCorpus
    seed: int
    threads: int  # how many candidates are worth asking for at once
    part: int  # candidates in one unit of work: about ten seconds, which repays starting a worker

    def version(self) -> str:
        """What changes when the source's content does, beyond the corpus' settings."""
        ...

    def size(self, split: str) -> int | None:
        """How many candidates there are; None when they are endless."""
        ...

    def example(self, split: str, index: int) -> Example:
        """One candidate, or Rejected."""
        ...


def open_source(corpus: VisionCorpus, seed: int) -> Source:
    """The source that a corpus names; UserError when it is missing or of the wrong shape."""
    kind, _, rest = corpus.source.partition(":")
    if kind == "grids":
        return GridSource(corpus, seed)
    if kind == "files":
        return FileSource(Path(rest), corpus, seed)
    return HubSource(corpus, seed)


class GridSource:
    """Endless grid worlds with captions or questions; the candidate's number is its seed."""

    threads = 1
    part = 5000

    def __init__(self, corpus: VisionCorpus, seed: int) -> None:
        self.corpus, self.seed = corpus, seed
        self.asks = corpus.source == "grids:questions"

    def version(self) -> str:
        """The package that draws."""
        return package("minigrid")

    def size(self, split: str) -> None:
        """Endless."""
        return None

    def example(self, split: str, index: int) -> Example:
        """The grid world that the candidate's number seeds."""
        rng = np.random.default_rng(sequence(self.seed, self.corpus.name, split, index))
        scene = draw_scene(rng, self.corpus.partial_views)
        if self.asks:
            kind, question, answer = ask(scene, rng)
            text = question_text(question, answer)
        else:
            kind, text = f"{scene.view} view", caption(scene, rng)
        return Example(encode_png(render(scene, self.corpus.image_size)), text, kind)


class FileSource:
    """A folder with images and `captions.jsonl`: lines of {"file": …, "text": …}, or of
    {"file": …, "question": …, "answers": […]}, divided at random between the two splits."""

    threads = 1
    part = 500

    def __init__(self, folder: Path, corpus: VisionCorpus, seed: int) -> None:
        self.corpus, self.seed = corpus, seed
        self.folder = folder.resolve()
        path = self.folder / CAPTIONS_FILE
        try:
            self.lines = path.read_text(encoding="utf8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"cannot read '{path}' ({error}): it must hold a JSON object a line, with the "
                'keys "file" and "text"'
            ) from None
        order = np.random.default_rng(sequence(seed, corpus.name)).permutation(len(self.lines))
        test = round(len(order) * corpus.test / (corpus.train + corpus.test))
        self.order = {"test": order[:test], "train": order[test:]}

    def version(self) -> str:
        """A digest of the captions, and of the folder's files."""
        digest = hashlib.sha256("\n".join(self.lines).encode())
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                digest.update(f"{path.relative_to(self.folder)}\0{checksum(path)}\n".encode())
        return digest.hexdigest()

    def size(self, split: str) -> int:
        """The split's share of the lines."""
        return len(self.order[split])

    def example(self, split: str, index: int) -> Example:
        """The image and text of one line."""
        try:
            row = json.loads(self.lines[self.order[split][index]])
        except (ValueError, RecursionError):
            raise Rejected("line is not JSON") from None
        if not isinstance(row, dict) or not isinstance(row.get("file"), str):
            raise Rejected("line names no file")
        text, kind = row_text(row)
        image = checked_image(self._read(row["file"]), self.corpus.image_size)
        return Example(image, text, kind)

    def _read(self, name: str) -> bytes:
        try:
            path = (self.folder / name).resolve()
            if not path.is_relative_to(self.folder):
                raise Rejected("file outside the folder")
            if not path.is_file():
                raise Rejected("no such file")
            if path.stat().st_size > MAX_BYTES:
                raise Rejected("too many bytes")
            return path.read_bytes()
        except (OSError, ValueError):
            raise Rejected("unreadable file") from None


class HubSource:
    """A dataset of the Hub with images, or with addresses of images that are fetched."""

    threads = 16
    part = 500

    def __init__(self, corpus: VisionCorpus, seed: int) -> None:
        self.corpus, self.seed = corpus, seed
        self.origins = {
            "train": (corpus.source, corpus.train_split),
            "test": (corpus.test_source or corpus.source, corpus.test_split),
        }
        self.tables: dict[str, Any] = {}
        self.loading = threading.Lock()

    def version(self) -> str:
        """Nothing is asked of the Hub: name a revision to follow what changes there."""
        return ""

    def size(self, split: str) -> int:
        """The rows of the split."""
        return len(self._table(split))

    def example(self, split: str, index: int) -> Example:
        """The image and text of one row."""
        (row,) = self._table(split)[index : index + 1].to_pylist()
        text, kind = row_text(row)
        image, url = _first(row, IMAGE_COLUMNS), _first(row, URL_COLUMNS)
        if isinstance(image, list):
            image = image[0] if image else None
        if isinstance(image, dict) and image.get("bytes"):
            data = image["bytes"]
        elif isinstance(url, str):
            data = fetch(url)
        else:
            raise Rejected("no image")  # a path in somebody else's data is never opened
        return Example(checked_image(data, self.corpus.image_size), text, kind)

    def _table(self, split: str) -> Any:
        with self.loading:
            if split not in self.tables:
                self.tables[split] = self._load(*self.origins[split])
            return self.tables[split]

    def _load(self, source: str, split: str) -> Any:
        import datasets
        from datasets.exceptions import DatasetsError

        name = source.removeprefix("hub:")
        repo, _, revision = name.partition("@")
        try:
            table = datasets.load_dataset(
                repo, self.corpus.subset, split=split, revision=revision or None
            )
        except (OSError, ValueError, RuntimeError, DatasetsError) as error:
            reason = str(error).splitlines()[0][:200]
            raise UserError(
                f"cannot load split '{split}' of '{name}' from the Hub ({reason}): check the "
                "network, the names and revision, or use a local copy as files:<folder>"
            ) from None
        columns = table.column_names
        pictures = [column for column in (*IMAGE_COLUMNS, *URL_COLUMNS) if column in columns]
        texts = [column for column in (*TEXT_COLUMNS, *QUESTION_COLUMNS) if column in columns]
        if not pictures or not texts:
            raise UserError(
                f"'{name}' has the columns {', '.join(columns)}: one of "
                f"{', '.join((*IMAGE_COLUMNS, *URL_COLUMNS))} and one of "
                f"{', '.join((*TEXT_COLUMNS, *QUESTION_COLUMNS))} are needed"
            )
        # As Arrow, images stay undecoded: their bytes are checked before anything unpacks them.
        return table.with_format("arrow")


def row_text(row: dict[str, Any]) -> tuple[str, str]:
    """(text, "caption" or "question") of a row from outside; a question with its commonest answer.

    OK-VQA gives ten people's answers; ties go to the one given first.
    """
    question = _first(row, QUESTION_COLUMNS)
    if question is None:
        return _clean(_first(row, TEXT_COLUMNS), "no text"), "caption"
    answers = _first(row, ANSWER_COLUMNS)
    answers = answers if isinstance(answers, list) else [answers]
    answers = [answer.get("answer") if isinstance(answer, dict) else answer for answer in answers]
    given = Counter(answer for answer in answers if isinstance(answer, str) and answer.strip())
    if not given:
        raise Rejected("no answer")
    answer = _clean(given.most_common(1)[0][0], "no answer")
    return question_text(_clean(question, "no question"), answer), "question"


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _clean(text: Any, missing: str) -> str:
    """NFC, each run of white space and control characters as one blank."""
    if not isinstance(text, str):
        raise Rejected(missing)
    printable = (" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)
    text = " ".join(unicodedata.normalize("NFC", "".join(printable)).split())
    if not text:
        raise Rejected(missing)
    if len(text) > MAX_TEXT:
        raise Rejected("text too long")
    return text
