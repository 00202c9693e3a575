"""Tasks of a dataset as flat arrays, decoded from Parquet once and memory-mapped afterwards."""

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import frames
from pipeline.domains import CORPUS_DOMAINS, get_domain
from pipeline.errors import UserError, did_you_mean
from pipeline.paths import ARTIFACTS
from pipeline.shards import open_shard, read_tables
from pipeline.stage import progress, replaced_folder, write_json
from pipeline.tasks import all_tasks

CACHE = ARTIFACTS / "cache"
CACHE_VERSION = 2
"""Raised when the layout of the cached arrays changes."""
OLDER_FRAMES = 3
"""Frames stored before each Atari episode: what its first stack shows before its newest frame."""

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class TaskData:
    """One split of one task.

    The rows of the RL domains are episodes; ``arrays`` then has ``offsets`` (int64 ``(E + 1,)``,
    episode e is steps ``offsets[e]:offsets[e + 1]``), ``rewards`` float32 ``(N,)``, ``actions``
    (float32 ``(N, A)`` or int64 ``(N,)``), and by domain

    - ``observations``: float32 ``(N, D)``, or uint8 ``(N, 148)`` on BabyAI
    - ``missions``: int32 ``(N,)``, indexes of ``strings``, on BabyAI
    - ``frames``: uint8 ``(N + 3 E, 84, 84)`` on Atari: each episode after its three older frames.

    The rows of corpora are documents: ``text`` has their texts in UTF-8 and ``images`` the encoded
    files of their pictures, uint8, one after the other; ``text_offsets`` and ``image_offsets``
    (int64 ``(E + 1,)``) tell where each begins.
    """

    task: str
    domain: str
    folder: Path
    """Where the arrays are, for what is derived from them."""
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
    domain = domain_of(task, shards[0])
    folder = cache / f"{task}-{split}"
    key = _key(shards)
    if _cached_key(folder) != key:
        with replaced_folder(folder) as temporary:
            strings: list[str] = []
            if domain in CORPUS_DOMAINS:
                _decode_documents(domain, shards, temporary)
            else:
                strings = _decode_episodes(domain, shards, temporary)
            write_json(temporary / "key.json", {"key": key, "strings": strings})
    names = ("text", "text_offsets", "images", "image_offsets")
    if domain not in CORPUS_DOMAINS:
        names = ("offsets", "rewards", "actions", "observations", "missions", "frames")
    paths = {name: folder / f"{name}.npy" for name in names}
    arrays = {name: np.load(path, mmap_mode="r") for name, path in paths.items() if path.exists()}
    strings = json.loads((folder / "key.json").read_text(encoding="utf8"))["strings"]
    return TaskData(task, domain, folder, arrays, tuple(strings))


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


def domain_of(task: str, shard: Path) -> str:
    """An environment's domain, or what a corpus consists of: "vision" where it has images."""
    if task in all_tasks():
        return all_tasks()[task].domain
    return "vision" if "images" in open_shard(shard).schema_arrow.names else "text"


def fingerprint(root: Path, task: str, split: str) -> str:
    """A digest that changes with the data of a split, wherever it lies; UserError without it."""
    return _key(find_shards(root, task, split))


def _key(shards: list[Path]) -> str:
    """A digest of the files' footers, which have the sizes and extremes of each column's pages."""
    digest = hashlib.sha256(str(CACHE_VERSION).encode())
    for path in shards:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            file.seek(max(0, size - 8))
            footer = int.from_bytes(file.read(4), "little")
            file.seek(max(0, size - 8 - footer))
            digest.update(file.read())
    return digest.hexdigest()


def _cached_key(folder: Path) -> str | None:
    try:
        return json.loads((folder / "key.json").read_text(encoding="utf8"))["key"]
    except (OSError, ValueError, KeyError):
        return None


def _decode_documents(domain: str, shards: list[Path], folder: Path) -> None:
    """Write the texts, and the pictures of a vision corpus, to ``folder``."""
    columns = {"text": ["text"], "vision": ["text", "images"]}[domain]
    lengths: dict[str, list[int]] = {name: [0] for name in columns}
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / name).open("wb")) for name in columns}
        for shard in progress(shards, f"decode {folder.name.split('.')[1]}", unit="files"):
            for table in _tables(shard, columns):
                for name in columns:
                    for cell in table.column(name).to_pylist():
                        data = cell.encode() if name == "text" else cell["bytes"]
                        files[name].write(data)
                        lengths[name].append(len(data))
    for name, counts in lengths.items():
        np.save(folder / f"{name.removesuffix('s')}_offsets.npy", np.cumsum(counts))
        raw = np.memmap(folder / name, np.uint8, "r") if sum(counts) else np.empty(0, np.uint8)
        np.save(folder / f"{name}.npy", raw)
        (folder / name).unlink()


def _tables(shard: Path, columns: list[str]) -> Iterator[pa.Table]:
    """Row groups with these columns; UserError that names a missing one."""
    names = open_shard(shard).schema_arrow.names
    for column in columns:
        if column not in names:
            raise UserError(f"'{shard}' has no column '{column}' (it has {', '.join(names)})")
    return read_tables(shard, columns)


def _decode_episodes(domain: str, shards: list[Path], folder: Path) -> list[str]:
    """Write the arrays of all shards to ``folder``; returns the distinct missions."""
    lengths = np.concatenate(
        [
            _lengths(table.column("rewards"))
            for shard in shards
            for table in _tables(shard, ["rewards"])
        ]
    )
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    np.save(folder / "offsets.npy", offsets)
    names = open_shard(shards[0]).schema_arrow.names
    observation = get_domain(domain).observation
    if domain == "atari" and "frames" in names:
        observation = "frames"
    action = f"{'discrete' if domain in ('atari', 'babyai') else 'continuous'}_actions"
    columns = [observation, action, "rewards", *["text_observations"] * (domain == "babyai")]

    writers: dict[str, _Writer] = {}
    missions: dict[str, int] = {}

    def write(name: str, rows: np.ndarray, total: int) -> None:
        if name not in writers:
            writers[name] = _Writer(folder / f"{name}.npy", total, rows)
        writers[name].write(rows)

    steps, episodes = int(offsets[-1]), len(lengths)
    for shard in progress(shards, f"decode {folder.name.split('.')[1]}", unit="files"):
        for table in _tables(shard, columns):
            check_lengths(shard, table)
            rewards = _flat(table.column("rewards")).astype(np.float32, copy=False)
            write("rewards", rewards, steps)
            write("actions", _actions(table.column(action)), steps)
            if domain == "atari":
                for cell in table.column(observation):
                    decoded = _screens(cell)
                    write("frames", decoded, steps + OLDER_FRAMES * episodes)
                continue
            write("observations", _observations(table.column(observation), domain), steps)
            if domain == "babyai":
                texts = _flat(table.column("text_observations"))
                ids = [missions.setdefault(text, len(missions)) for text in texts]
                write("missions", np.array(ids, np.int32), steps)
    for writer in writers.values():
        writer.array.flush()
    return list(missions)


class _Writer:
    """Fills a .npy file of a known number of rows."""

    def __init__(self, path: Path, total: int, like: np.ndarray) -> None:
        self.array = np.lib.format.open_memmap(
            path, mode="w+", dtype=like.dtype, shape=(total, *like.shape[1:])
        )
        self.at = 0

    def write(self, rows: np.ndarray) -> None:
        self.array[self.at : self.at + len(rows)] = rows
        self.at += len(rows)


def check_lengths(shard: Path, table: pa.Table) -> None:
    """UserError unless every column has as many steps as the others in each episode."""
    expected = _lengths(table.column("rewards"))
    for name in table.column_names:
        if not np.array_equal(_lengths(table.column(name)), expected):
            raise UserError(
                f"'{shard}': episodes of '{name}' are not as long as their 'rewards': "
                "the shard is damaged, build it again"
            )


def _lengths(column: Any) -> np.ndarray:
    return np.concatenate([chunk.value_lengths().to_numpy() for chunk in column.chunks])


def _flat(column: Any) -> np.ndarray:
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False)


def _matrix(column: Any) -> np.ndarray:
    """Lists of lists of equal length as (steps, width)."""
    steps = column.combine_chunks().flatten()
    return steps.flatten().to_numpy(zero_copy_only=False).reshape(len(steps), -1)


def _observations(column: Any, domain: str) -> np.ndarray:
    return _matrix(column).astype(np.uint8 if domain == "babyai" else np.float32, copy=False)


def _actions(column: Any) -> np.ndarray:
    if pa.types.is_list(column.type.value_type):
        return _matrix(column).astype(np.float32, copy=False)
    return _flat(column).astype(np.int64, copy=False)


def _screens(cell: Any) -> np.ndarray:
    """One episode's frames after the three older ones of its first stack, uint8 (T + 3, 84, 84).

    The cell has single frames as bytes, or, as JAT published them, stacks of four as the channels
    of 84 × 84 pictures (the newest frame last).
    """
    rows = cell.values
    if pa.types.is_binary(rows.type):
        newest = frames.from_bytes(rows.to_pylist())
        return np.concatenate([np.repeat(newest[:1], OLDER_FRAMES, axis=0), newest])
    from PIL import Image

    stacks = [np.asarray(Image.open(io.BytesIO(row["bytes"]))) for row in rows.to_pylist()]
    older = np.moveaxis(stacks[0], -1, 0)[:-1]
    return np.concatenate([older, np.stack([stack[..., -1] for stack in stacks])])
