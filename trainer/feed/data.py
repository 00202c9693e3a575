"""Tasks of a dataset as flat arrays, decoded from Parquet once and memory-mapped afterwards."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import closure
from pipeline.content import contents
from pipeline.domains import get_domain
from pipeline.errors import UserError, did_you_mean
from pipeline.files import Named, read_model
from pipeline.manifest import check_files
from pipeline.paths import ARTIFACTS
from pipeline.shards import open_shard
from pipeline.stage import replaced_folder, write_json
from pipeline.tasks import all_tasks
from pipeline.types import Domain, Modality
from trainer.feed.decode import decode_documents, decode_episodes
from trainer.feed.frame_store import FrameStore

CACHE = ARTIFACTS / "cache"

Arrays = dict[str, Any]


@dataclass(frozen=True)
class TaskData:
    """One split of one task.

    If its rows are episodes, ``arrays`` has ``offsets`` (int64 ``(E + 1,)``, episode e is steps
    ``offsets[e]:offsets[e + 1]``), ``rewards`` float32 ``(N,)``, ``actions`` (float32 ``(N, A)`` or
    int64 ``(N,)``), and by modality

    - ``observations``: float32, uint8 or int32 ``(N, D)``
    - ``missions``: int32 ``(N,)``, indexes of ``strings``, where texts come with the observations
    - ``frames``: a ``FrameStore`` of pictures, uint8 ``(N + 3 E, 84, 84)``: each episode after its
      three older frames.

    The rows of corpora are documents: ``text`` has their texts in UTF-8 and ``images`` the encoded
    files of their pictures, uint8, one after the other; ``text_offsets`` and ``image_offsets``
    (int64 ``(E + 1,)``) tell where each begins.
    """

    task: str
    domain: str
    modality: Modality
    folder: Path
    """The folder of the arrays, for what is derived from them."""
    arrays: Arrays
    strings: tuple[str, ...] = ()
    """Distinct missions."""

    @property
    def steps(self) -> int:
        """Timesteps of all episodes."""
        return len(self.arrays["rewards"])

    def texts(self) -> Iterator[str]:
        """The texts of all documents, or the distinct missions."""
        if "text" not in self.arrays:
            yield from self.strings
            return
        for start, end in pairwise(self.arrays["text_offsets"]):
            yield self.arrays["text"][start:end].tobytes().decode("utf8")

    def image(self, row: int) -> np.ndarray:
        """The picture of one document, uint8 (height, width, 3)."""
        from PIL import Image

        start, end = self.arrays["image_offsets"][row : row + 2]
        with Image.open(io.BytesIO(self.arrays["images"][start:end].tobytes())) as image:
            return np.array(image.convert("RGB"))


def load(root: Path, task: str, split: str, cache: Path = CACHE) -> TaskData:
    """One split of one task of the dataset in ``root``; UserError if it is not there or broken.

    The decoded arrays are kept below ``cache``, and made anew when the shards change.
    """
    shards = find_shards(root, task, split)
    modality = modality_of(shards)
    domain = domain_of(task, modality, root / task)
    folder = cache / f"{task}-{split}"
    code = closure.digest(decode_episodes, decode_documents, FrameStore)
    key = f"{contents(shards)} {code}"
    if _cached_key(folder) != key:
        check_files(root / task, [path.name for path in shards])
        with replaced_folder(folder) as temporary:
            strings: list[str] = []
            if modality.episodic:
                strings = decode_episodes(modality, shards, temporary)
            else:
                decode_documents(modality, shards, temporary)
            write_json(temporary / "key.json", {"key": key, "strings": strings})
    names = ("text", "text_offsets", "images", "image_offsets")
    if modality.episodic:
        names = ("offsets", "rewards", "actions", "observations", "missions")
    paths = {name: folder / f"{name}.npy" for name in names}
    arrays: Arrays = {
        name: np.load(path, mmap_mode="r") for name, path in paths.items() if path.exists()
    }
    if modality.observation == "image":
        arrays["frames"] = FrameStore(folder)
    strings = json.loads((folder / "key.json").read_text(encoding="utf8"))["strings"]
    return TaskData(task, domain, modality, folder, arrays, tuple(strings))


def find_shards(root: Path, task: str, split: str) -> list[Path]:
    """The files ``<root>/<task>/<split>-*-of-*.parquet``; UserError if there are none."""
    shards = sorted((root / task).glob(f"{split}-*-of-*.parquet"))
    if not shards:
        if not root.is_dir():
            raise UserError(f"no dataset folder '{root}': build it, or pass --dataset")
        tasks = [path.name for path in root.iterdir() if any(path.glob("*.parquet"))]
        if task in tasks:
            raise UserError(f"'{root / task}' has no {split}-*-of-*.parquet: build it again")
        raise UserError(
            f"dataset '{root}' has no task '{task}'{did_you_mean(task, tasks)}: "
            "build it, or name others by --tasks"
        )
    return shards


def modality_of(shards: list[Path]) -> Modality:
    """What the rows of shards are made of."""
    return Modality.of_columns(open_shard(shards[0]).schema_arrow.names)


def domain_of(task: str, modality: Modality, folder: Path) -> str:
    """The domain of an environment, also of one that only the dataset knows; or what a corpus
    consists of.
    """
    if not modality.episodic:
        return modality.observation
    if task in all_tasks():
        return all_tasks()[task].domain
    path = folder / "manifest.json"
    named = read_model(path, Named) if path.exists() else {}
    return str(named.get("domain", "gymnasium"))


def domain_defaults(name: str) -> Domain:
    """The domain of that name; one without any special values if this process does not know it."""
    try:
        return get_domain(name)
    except UserError:
        return Domain(name, name)


def fingerprint(root: Path, task: str, split: str) -> str:
    """A digest that changes with the data of a split, wherever it lies; UserError without it."""
    return contents(find_shards(root, task, split))


def _cached_key(folder: Path) -> str | None:
    try:
        return json.loads((folder / "key.json").read_text(encoding="utf8"))["key"]
    except (OSError, ValueError, KeyError):
        return None
