"""Parquet shards of images with text, in the layout that `datasets.load_dataset(folder)` reads."""

from __future__ import annotations

import os
from collections import Counter
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dataset_builder.vision.sources import Example
from pipeline.schema import arrow_schema
from pipeline.types import Modality

ROWS_PER_GROUP = 100  # the Hub's viewer refuses large row groups
SHARD_BYTES = 256_000_000


class SplitWriter:
    """Writes one split's shards, up to `wanted` rows, and drops what it has seen before.

    `others` holds the digests of another split's images: none of them may appear in this one.
    """

    def __init__(self, folder: Path, split: str, wanted: int, others: frozenset[bytes]) -> None:
        self.folder, self.split, self.wanted, self.others = folder, split, wanted, others
        self.images: set[bytes] = set()
        self.rows = 0
        self.bytes = 0
        self.kinds: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._texts: set[bytes] = set()
        self._schema = arrow_schema(Modality("vision"))
        self._group: list[tuple[str, Example]] = []
        self._shards: list[Path] = []
        self._shard: pq.ParquetWriter | None = None
        self._shard_bytes = 0

    @property
    def missing(self) -> int:
        """Rows still wanted."""
        return self.wanted - self.rows

    def add(self, name: str, example: Example) -> None:
        """Write one example under a name that says which candidate it was, or count why not."""
        image = blake2b(example.image, digest_size=16).digest()
        pair = blake2b(example.text.encode(), key=image, digest_size=16).digest()
        if image in self.others:
            self.dropped["image of the test split"] += 1
        elif pair in self._texts:
            self.dropped["duplicate"] += 1
        else:
            self.images.add(image)
            self._texts.add(pair)
            self.kinds[example.kind] += 1
            self.rows += 1
            self.bytes += len(example.image)
            self._group.append((name, example))
            if len(self._group) == ROWS_PER_GROUP:
                self._write_group()

    def close(self) -> list[str]:
        """The shards' file names, now that their number is known."""
        self._write_group()
        if self._shard:
            self._shard.close()
        names = [
            f"{self.split}-{k:05d}-of-{len(self._shards):05d}.parquet"
            for k in range(len(self._shards))
        ]
        for path, name in zip(self._shards, names, strict=True):
            os.replace(path, self.folder / name)
        return names

    def _write_group(self) -> None:
        if not self._group:
            return
        if self._shard is None or self._shard_bytes >= SHARD_BYTES:
            if self._shard:
                self._shard.close()
            self._shards.append(self.folder / f".{self.split}-{len(self._shards)}")
            # Neither a dictionary nor statistics help with bytes that are all different.
            self._shard = pq.ParquetWriter(
                self._shards[-1],
                self._schema,
                compression="zstd",
                use_dictionary=False,
                write_statistics=False,
            )
            self._shard_bytes = 0
        images = [{"bytes": example.image, "path": name} for name, example in self._group]
        texts = [example.text for _, example in self._group]
        self._shard.write_table(pa.table([images, texts], schema=self._schema))
        self._shard_bytes += sum(len(example.image) for _, example in self._group)
        self._group.clear()
