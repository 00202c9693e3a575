"""The columns of an episode row: JAT's own, and what else one needs to trust and replay it.

JAT's columns keep their names and types (arXiv 2402.09844, dataset section), except that pictures
are stored as single frames (``frames``) and discrete observations as uint8 where that holds them.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import frames
from pipeline.types import Episode, Modality

VERSION = 1
"""Raised when a column changes its name, type or meaning."""

_COMMON = {
    "rewards": pa.list_(pa.float32()),
    "terminated": pa.bool_(),
    "truncated": pa.bool_(),
    "seed": pa.int64(),
    "reset_index": pa.int32(),
    "policy": pa.string(),
    "policy_checksum": pa.string(),
}
_DOCUMENTS = {
    "text": {"text": pa.string()},
    "vision": {
        "images": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        "text": pa.string(),
    },
}


def columns(modality: Modality) -> dict[str, pa.DataType]:
    """Name -> type of the columns of a row, in their order."""
    if not modality.episodic:
        return dict(_DOCUMENTS[modality.observation])
    step, stored = _step(modality)
    numbers = pa.list_(pa.float32()) if modality.action == "continuous" else pa.int64()
    return {
        **({"text_observations": pa.list_(pa.string())} if modality.missions else {}),
        stored: pa.list_(step),
        modality.action_column: pa.list_(numbers),
        **_COMMON,
        "final_observation": step,
        **({"success": pa.list_(pa.bool_())} if modality.success else {}),
    }


def _step(modality: Modality) -> tuple[pa.DataType, str]:
    """The type of one stored observation, and the column that has them."""
    if modality.observation == "image":
        return pa.binary(), "frames"
    number = pa.float32()
    if modality.observation == "discrete":
        number = pa.int64() if modality.wide else pa.uint8()
    return pa.list_(number), modality.observation_column


def arrow_schema(modality: Modality) -> pa.Schema:
    """The Arrow schema of a row, with the metadata that ``datasets`` reads."""
    types = columns(modality)
    features = {name: _feature(type) for name, type in types.items()}
    if modality.observation == "vision":
        features["images"] = {"_type": "Image"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(list(types.items())).with_metadata(metadata)


def _feature(type: pa.DataType) -> Any:
    """The description of one Arrow type in the notation of ``datasets``."""
    if pa.types.is_list(type):
        return {"feature": _feature(type.value_type), "_type": "List"}
    if pa.types.is_struct(type):
        return {type.field(k).name: _feature(type.field(k).type) for k in range(type.num_fields)}
    name = {"float": "float32", "double": "float64"}.get(str(type), str(type))
    return {"dtype": name, "_type": "Value"}


def keep_observations(observations: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is stored of the observations: of each stack of frames the newest."""
    kept = dict(observations)
    if "image_observations" in kept:
        kept["frames"] = frames.newest(kept.pop("image_observations"))
    return kept


def to_table(
    modality: Modality, episodes: Sequence[Episode], policy: str, checksum: str
) -> pa.Table:
    """Episodes, whose observations are as ``keep_observations`` leaves them, as one Arrow table."""
    schema = arrow_schema(modality)
    cells: dict[str, list[Any]] = {name: [] for name in schema.names}
    for episode in episodes:
        row = _row(modality, episode, policy, checksum)
        for name, values in cells.items():
            values.append(row[name])
    arrays = [_array(schema.field(name).type, values) for name, values in cells.items()]
    return pa.Table.from_arrays(arrays, schema=schema)


def _row(modality: Modality, episode: Episode, policy: str, checksum: str) -> dict[str, Any]:
    _, stored = _step(modality)
    final = episode.observations[stored][-1]
    return {
        "rewards": episode.rewards,
        "terminated": episode.terminated,
        "truncated": episode.truncated,
        "seed": episode.seed,
        "reset_index": episode.reset_index,
        "policy": policy,
        "policy_checksum": checksum,
        **episode.info,
        **{name: rows[:-1] for name, rows in episode.observations.items()},
        "final_observation": final.tobytes() if stored == "frames" else final,
        modality.action_column: episode.actions,
    }


def _array(type: pa.DataType, values: list[Any]) -> pa.Array:
    """Rows as an Arrow array; arrays of numbers go in without a Python object a number."""
    if pa.types.is_list(type) and isinstance(values[0], np.ndarray):
        offsets = np.cumsum([0, *(len(rows) for rows in values)]).astype(np.int32)
        flat = values[0] if len(values) == 1 else np.concatenate(values)
        if pa.types.is_binary(type.value_type):
            inner = frames.to_arrow(flat)
        elif pa.types.is_list(type.value_type):
            width = flat.shape[1]
            inner_offsets = np.arange(len(flat) + 1, dtype=np.int32) * width
            numbers = pa.array(flat.reshape(-1), type.value_type.value_type)
            inner = pa.ListArray.from_arrays(inner_offsets, numbers)
        else:
            inner = pa.array(flat, type.value_type)
        return pa.ListArray.from_arrays(offsets, inner)
    return pa.array(values, type)
