"""The columns of an episode row: JAT's own, and what else one needs to trust and replay it.

JAT's columns keep their names and types (arXiv 2402.09844, dataset section), except that Atari
stores single frames (``frames``) and discrete observations are uint8.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import frames
from pipeline.types import Episode

VERSION = 1
"""Raised when a column changes its name, type or meaning."""

_FLOATS = pa.list_(pa.list_(pa.float32()))
_COMMON = {
    "rewards": pa.list_(pa.float32()),
    "terminated": pa.bool_(),
    "truncated": pa.bool_(),
    "seed": pa.int64(),
    "reset_index": pa.int32(),
    "policy": pa.string(),
    "policy_checksum": pa.string(),
}
_CONTINUOUS = {
    "continuous_observations": _FLOATS,
    "continuous_actions": _FLOATS,
    **_COMMON,
    "final_observation": pa.list_(pa.float32()),
}
COLUMNS: dict[str, dict[str, pa.DataType]] = {
    "mujoco": _CONTINUOUS,
    "metaworld": {**_CONTINUOUS, "success": pa.list_(pa.bool_())},
    "babyai": {
        "text_observations": pa.list_(pa.string()),
        "discrete_observations": pa.list_(pa.list_(pa.uint8())),
        "discrete_actions": pa.list_(pa.int64()),
        **_COMMON,
        "final_observation": pa.list_(pa.uint8()),
    },
    "atari": {
        "frames": pa.list_(pa.binary()),
        "discrete_actions": pa.list_(pa.int64()),
        **_COMMON,
        "final_observation": pa.binary(),
    },
    "text": {"text": pa.string()},
    "vision": {
        "images": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        "text": pa.string(),
    },
}


def arrow_schema(domain: str) -> pa.Schema:
    """The Arrow schema of a domain's rows, with the metadata that ``datasets`` reads."""
    schema = pa.schema([pa.field(name, type) for name, type in COLUMNS[domain].items()])
    features = {name: _feature(type) for name, type in COLUMNS[domain].items()}
    if domain == "vision":
        features["images"] = {"_type": "Image"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return schema.with_metadata(metadata)


def _feature(type: pa.DataType) -> Any:
    """The description of one Arrow type in the notation of ``datasets``."""
    if pa.types.is_list(type):
        return {"feature": _feature(type.value_type), "_type": "List"}
    if pa.types.is_struct(type):
        return {type.field(k).name: _feature(type.field(k).type) for k in range(type.num_fields)}
    name = {"float": "float32", "double": "float64"}.get(str(type), str(type))
    return {"dtype": name, "_type": "Value"}


def keep_observations(domain: str, observations: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is stored of the observations: for Atari the newest frame of each stack."""
    if domain == "atari":
        return {"frames": frames.newest(observations["image_observations"])}
    return observations


def to_table(domain: str, episodes: Sequence[Episode], policy: str, checksum: str) -> pa.Table:
    """Episodes as one Arrow table with the domain's schema."""
    schema = arrow_schema(domain)
    columns = {name: [] for name in schema.names}
    for episode in episodes:
        row = _row(domain, episode, policy, checksum)
        for name, values in columns.items():
            values.append(row[name])
    arrays = [_array(schema.field(name).type, values) for name, values in columns.items()]
    return pa.Table.from_arrays(arrays, schema=schema)


def _row(domain: str, episode: Episode, policy: str, checksum: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "rewards": episode.rewards,
        "terminated": episode.terminated,
        "truncated": episode.truncated,
        "seed": episode.seed,
        "reset_index": episode.reset_index,
        "policy": policy,
        "policy_checksum": checksum,
        **episode.info,
    }
    for name, rows in episode.observations.items():
        row[name] = rows[:-1]
    if domain == "atari":
        row["final_observation"] = episode.observations["frames"][-1].tobytes()
    elif domain == "babyai":
        row["final_observation"] = episode.observations["discrete_observations"][-1]
    else:
        row["final_observation"] = episode.observations["continuous_observations"][-1]
    discrete = domain in ("atari", "babyai")
    row["discrete_actions" if discrete else "continuous_actions"] = episode.actions
    return row


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
