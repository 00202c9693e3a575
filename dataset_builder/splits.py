"""Which rows are held out: those whose content hashes below a threshold.

What a row is made of decides its side, nothing else: copies are on the same side, and more data
moves no row that was there.
"""

import hashlib
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.shards import to_numpy
from pipeline.types import Modality

Digest = bytes
"""16 bytes that two rows share if their contents are the same."""
SIZE = 16


def digests(table: pa.Table, modality: Modality) -> list[Digest]:
    """The digest of each row: of an episode what was seen, done and earned, of a document all."""
    names = content_columns(table.column_names, modality)
    hashes = [hashlib.blake2b(digest_size=SIZE) for _ in range(len(table))]
    for name in names:
        column = table.column(name)
        for row, whole in enumerate(hashes):
            data = _bytes(to_numpy(name, column[row]))
            whole.update(f"{name} {len(data)} ".encode())
            whole.update(data)
    return [whole.digest() for whole in hashes]


def content_columns(names: Collection[str], modality: Modality) -> list[str]:
    """The columns that a row's content consists of, in the order of names."""
    if not modality.episodic:
        return sorted(set(names) & {"text", "images"})
    observed = {modality.observation_column, "frames", "text_observations", "image_observations"}
    return sorted(set(names) & {*observed, modality.action_column, "rewards"})


def _bytes(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        texts = value.dtype == object
        return (
            "\0".join(map(str, value)).encode()
            if texts
            else np.ascontiguousarray(value).data.cast("B")
        )
    if isinstance(value, dict):  # a picture
        return value["bytes"]
    return str(value).encode()


def held_out(found: Iterable[Digest], fraction: float) -> set[Digest]:
    """Those of the contents that the test split has: about ``fraction`` of the distinct ones.

    Where chance would leave a split empty, and there are two contents, the nearest one moves over.
    """
    distinct = set(found)
    chosen = {digest for digest in distinct if position(digest) < fraction}
    if len(distinct) > 1 and not chosen:
        return {min(distinct, key=position)}
    if len(distinct) > 1 and chosen == distinct:
        return distinct - {max(distinct, key=position)}
    return chosen if len(distinct) > 1 else set()


def position(digest: Digest) -> float:
    """A number in [0, 1) that follows from a digest alone, uniform over contents: below
    ``test_fraction``, the content is held out.
    """
    return int.from_bytes(digest[:8], "big") / 2**64
