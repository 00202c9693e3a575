"""Whether the cells of a Parquet file are what their columns' names promise.

Whoever reads a table that passed may take lists, numbers and texts for granted.
"""

from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.frames import FRAME_BYTES


def _number(type: pa.DataType) -> bool:
    return pa.types.is_integer(type) or pa.types.is_floating(type)


def _picture(type: pa.DataType) -> bool:
    return pa.types.is_struct(type) and any(
        field.name == "bytes" and pa.types.is_binary(field.type) for field in type
    )


STEP, VECTOR = 1, 2
"""How many lists a number a step, and a row of numbers a step, are in."""
KINDS: dict[str, tuple[int, Callable[[pa.DataType], bool], str]] = {
    "continuous_observations": (VECTOR, _number, "numbers"),
    "continuous_actions": (VECTOR, _number, "numbers"),
    "discrete_observations": (VECTOR, pa.types.is_integer, "whole numbers"),
    "discrete_actions": (STEP, pa.types.is_integer, "whole numbers"),
    "text_observations": (STEP, pa.types.is_string, "texts"),
    "image_observations": (STEP, _picture, "pictures"),
    "frames": (STEP, pa.types.is_binary, "frames"),
    "rewards": (STEP, _number, "numbers"),
    "success": (STEP, pa.types.is_boolean, "booleans"),
    "terminated": (0, pa.types.is_boolean, "booleans"),
    "truncated": (0, pa.types.is_boolean, "booleans"),
    "seed": (0, pa.types.is_integer, "whole numbers"),
    "reset_index": (0, pa.types.is_integer, "whole numbers"),
    "text": (0, pa.types.is_string, "texts"),
    "images": (0, _picture, "pictures"),
}
"""Column -> the number of lists around its values, what these are, and how an error calls them."""


def problems(table: pa.Table) -> Iterator[str]:
    """What is wrong with each column that is not as its name promises."""
    for name in table.column_names:
        if name in KINDS:
            found = next(_problems(table.column(name), *KINDS[name]), None)
            if found:
                yield f"is no shard, as column '{name}' {found}"


def _problems(
    column: pa.ChunkedArray, depth: int, is_value: Callable[[pa.DataType], bool], called: str
) -> Iterator[str]:
    type = column.type
    for _ in range(depth):
        if not pa.types.is_list(type):
            break
        type = type.value_type
    if not is_value(type) or str(column.type).count("list<") != depth:
        yield f"is of type {column.type}, not {'lists of ' * depth}{called}"
        return
    for array in column.chunks:
        for level in range(depth + 1):
            if array.null_count:
                yield "has missing values"
                return
            if level == depth:
                break
            lengths = pc.call_function("list_value_length", [array])
            extremes = pc.call_function("min_max", [lengths]).as_py()
            if level == 0 and extremes["min"] == 0:
                yield "has an episode without steps"
            if level == 1 and extremes["min"] != extremes["max"]:
                yield "has rows of different widths"
            if level == 1 and extremes["min"] == 0:
                yield "has rows without numbers"
            array = array.flatten()
        if pa.types.is_struct(type):
            if array.field("bytes").null_count:
                yield "has pictures without bytes"
        elif called == "frames":
            sizes = pc.call_function("binary_length", [array])
            extremes = pc.call_function("min_max", [sizes]).as_py()
            if set(extremes.values()) != {FRAME_BYTES}:
                yield f"has a frame that does not have {FRAME_BYTES} bytes"
