"""Cells of Parquet files that are not what their columns promise."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UserError
from pipeline.shards import read_tables


@pytest.mark.parametrize(
    ("name", "cells", "expected"),
    [
        ("rewards", pa.array([1.0]), "is of type double, not lists of numbers"),
        ("rewards", pa.array([["a"]]), "not lists of numbers"),
        ("rewards", pa.array([[1.0], None]), "has missing values"),
        ("rewards", pa.array([[1.0, None]]), "has missing values"),
        ("rewards", pa.array([[]], pa.list_(pa.float32())), "has an episode without steps"),
        ("continuous_actions", pa.array([[[1.0], [1.0, 2.0]]]), "has rows of different widths"),
        ("continuous_actions", pa.array([[1.0]]), "not lists of lists of numbers"),
        ("discrete_actions", pa.array([[1.5]]), "not lists of whole numbers"),
        ("frames", pa.array([[b"short"]]), "has a frame that does not have 7056 bytes"),
        ("text", pa.array([b"\xff"]), "not texts"),
        ("images", pa.array([{"path": "x"}]), "not pictures"),
        ("images", pa.array([{"bytes": None, "path": "x"}]), "not pictures"),
        (
            "images",
            pa.array([{"bytes": None}], pa.struct({"bytes": pa.binary()})),
            "has pictures without bytes",
        ),
    ],
)
def test_cells_of_another_kind_are_named(
    tmp_path: Path, name: str, cells: Any, expected: str
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({name: cells}), path)
    with pytest.raises(UserError) as error:
        list(read_tables(path))
    assert f"a.parquet' is no shard, as column '{name}' " in str(error.value)
    assert expected in str(error.value)


def test_a_column_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"rewards": [[1.0]]}), path)
    with pytest.raises(UserError, match=r"has no column 'seed' \(it has rewards\)"):
        list(read_tables(path, ["rewards", "seed"]))
