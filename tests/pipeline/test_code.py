"""What DVC watches is computed: each stage depends on the code that it runs, and on no other."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline import code
from pipeline.params import load_params

ROOT = Path(__file__).parents[2]
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf8"))["stages"]


def test_every_stage_depends_on_its_code():
    for name, stage in DVC.items():
        if name != "code":
            assert f"artifacts/code/{name}.json" in stage["deps"]
            assert not [dep for dep in stage["deps"] if not dep.startswith("artifacts/")]
    made = {path for out in DVC["code"]["outs"] for path in out}
    assert made == {f"artifacts/code/{name}.json" for name in DVC if name != "code"}


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The project's code, to change."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("pipeline", "experts", "dataset_builder", "trainer"):
        ignored = shutil.ignore_patterns("__pycache__", "shipped")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    return folder


def written(folder: Path) -> dict[str, dict]:
    """What the stage writes in a copy, as a process of its own."""
    subprocess.run(
        [sys.executable, "-m", "pipeline.code"], cwd=folder, check=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )  # fmt: skip
    return {
        path.stem: json.loads(path.read_text()) for path in (folder / "artifacts/code").iterdir()
    }


TRAIN = {"train_mujoco", "train_metaworld", "train_atari"}


@pytest.mark.parametrize(
    ("file", "old", "new", "touched", "untouched"),
    [
        (
            "pipeline/engines/envpool.py", "rewards.astype(", "0 * rewards.astype(",
            {*TRAIN, "collect_mujoco", "collect_atari", "random_scores", "evaluate_jat"},
            {"collect_babyai", "build_text", "build_vision", "publish"},
        ),
        (
            "trainer/model/losses_jat.py", "Loss(self.mean * factor", "Loss(0 * self.mean * factor",
            {"train_jat", "evaluate_jat"},
            {*TRAIN, "collect_mujoco", "build_text", "build_dataset", "random_scores", "report"},
        ),
        (
            "experts/gate.py", "NEAR_REFERENCE = 0.9", "NEAR_REFERENCE = 0.8",
            TRAIN,
            {"collect_mujoco", "collect_babyai", "random_scores", "build_text", "train_jat"},
        ),
        (
            "dataset_builder/text/filters.py", "MAX_WORD_LENGTH = 25", "MAX_WORD_LENGTH = 26",
            {"build_text"},
            {*(set(DVC) - {"code", "build_text"})},
        ),
        (
            "experts/gate.py", "RESAMPLES = 2000", "RESAMPLES = 2000  # enough",
            set(),
            {*(set(DVC) - {"code"})},
        ),
    ],
)  # fmt: skip
def test_a_change_touches_the_stages_that_use_it(copy, file, old, new, touched, untouched):
    before = written(copy)
    path = copy / file
    source = path.read_text(encoding="utf8")
    assert old in source
    path.write_text(source.replace(old, new, 1), encoding="utf8")
    try:
        after = written(copy)
    finally:
        path.write_text(source, encoding="utf8")
    changed = {name for name in before if before[name] != after[name]}
    assert touched <= changed
    assert not untouched & changed


def test_a_default_that_changes_is_a_parameter_that_changes(copy):
    before = code.decides(load_params(ROOT / "params.yaml"), DVC["train_jat"])
    assert before["params"]["jat"]["weight_decay"] == 0.0
    assert before["params"]["seed"] == load_params(ROOT / "params.yaml").seed
