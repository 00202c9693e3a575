"""Files of another shape are one line that names the file and the key."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.files import (
    BaselineResult,
    DatasetManifest,
    Evaluated,
    GateScore,
    Manifest,
    TaskSpecShape,
    Verdict,
    read_model,
)
from pipeline.stage import write_json

FILE = {"file": "a.parquet", "bytes": 3, "sha256": "0"}
SCALE = {"mean": [0.0], "unit": [1.0]}
EPISODES = {
    "task": "x",
    "domain": "mujoco",
    "files": [{**FILE, "split": "train", "rows": 3}],
    "modality": {"observation": "continuous", "action": "continuous"},
}


def test_what_has_the_shape_is_read_as_it_is(tmp_path: Path) -> None:
    values = {"files": [{**FILE, "more": [1]}], "further": None}
    write_json(tmp_path / "manifest.json", values)
    assert read_model(tmp_path / "manifest.json", Manifest) == values


@pytest.mark.parametrize(
    ("shape", "values", "expected"),
    [
        (Verdict, [], "its contents must be a mapping (it is [])"),
        (Verdict, {}, "'verdict' is missing"),
        (Verdict, {"verdict": 3}, "'verdict' must be text (it is 3)"),
        (GateScore, {"verdict": "expert"}, "'mean' is missing"),
        (Manifest, {"files": [{**FILE, "bytes": True}]}, "'files.0.bytes' must be a whole number"),
        (Manifest, {"files": [{**FILE, "file": "../x"}]}, "'files.0.file' names no file"),
        (Manifest, {"files": [{**FILE, "file": ".."}]}, "'files.0.file' names no file"),
        (DatasetManifest, {**EPISODES, "provenance": {}}, "needs 'decides' and 'expert'"),
        (DatasetManifest, {**EPISODES, "modality": {"observation": "x"}}, "'modality.observation'"),
        (dict[str, BaselineResult], {"x": {"mean": 1, "std": "1"}}, "'x.std' must be a number"),
        (Evaluated, {"key": "0", "result": {"domain": "x"}}, "'accuracy' is missing"),
        (Evaluated, {"key": "0", "result": {"domain": "x", "returns": []}}, "'result.returns'"),
        (
            dict[str, TaskSpecShape],
            {"x": {"domain": "x", "context": 1, "observations": {**SCALE, "mean": []}}},
            "have different lengths",
        ),
        (
            dict[str, TaskSpecShape],
            {"x": {"domain": "x", "context": 1, "actions": {**SCALE, "unit": [0.0]}}},
            "'x.actions.unit.0'",
        ),
        (Verdict, {"verdict": {"\x1b[31m" * 99: 1}}, "'verdict' must be text"),
    ],
)
def test_another_shape_is_one_line(tmp_path: Path, shape: Any, values: Any, expected: str) -> None:
    path = tmp_path / "file.json"
    write_json(path, values)
    with pytest.raises(UserError) as error:
        read_model(path, shape)
    line = str(error.value)
    assert expected in line
    assert str(path) in line
    assert "delete it and run its stage again" in line
    assert line.isprintable()
