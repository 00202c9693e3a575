"""What is trained or scored already is done again when anything that decides it has changed."""

import copy
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from runs import make_params

from pipeline.domains import text
from pipeline.params import Params
from pipeline.schema import arrow_schema
from pipeline.shards import write_shard
from pipeline.stage import write_json
from pipeline.types import Episode
from trainer.evaluate import TaskEvaluation, make_jobs
from trainer.evaluation.jat_policy import model_checksum
from trainer.feed.specs import TaskSpec, save_specs
from trainer.run import run_key

TASKS = ["mujoco-pendulum", "babyai-go-to-obj"]


@pytest.fixture
def data(tmp_path: Path, episodes: dict[str, list[Episode]], write) -> Path:
    """A dataset of two tasks, to change."""
    for task in TASKS:
        for split in ("train", "test"):
            write(tmp_path / "data", task, split, episodes[task])
    return tmp_path / "data"


def with_seed(params: Params, seed: int) -> Params:
    return params.model_copy(update={"seed": seed})


# --- training


def test_the_same_run_has_the_same_key(data: Path):
    assert run_key(make_params(), TASKS, data) == run_key(make_params(), TASKS, data)


@pytest.mark.parametrize("new", [1e6, None])
def test_a_changed_value_of_the_data_changes_the_key(
    data: Path, episodes: dict[str, list[Episode]], write, new: float | None
):
    """A new extreme; or one bit of one number, in files of the same names and sizes."""
    before = run_key(make_params(), TASKS, data)
    changed = copy.deepcopy(episodes["mujoco-pendulum"])
    value = changed[2].observations["continuous_observations"]
    value[0, 1] = np.nextafter(value[0, 1], np.float32(np.inf)) if new is None else new
    write(data, "mujoco-pendulum", "train", changed)
    assert run_key(make_params(), TASKS, data) != before
    write(data, "mujoco-pendulum", "train", episodes["mujoco-pendulum"])
    assert run_key(make_params(), TASKS, data) == before


def test_the_test_split_and_other_tasks_do_not_change_the_key(
    data: Path, episodes: dict[str, list[Episode]], write
):
    before = run_key(make_params(), TASKS[:1], data)
    write(data, TASKS[0], "test", episodes[TASKS[0]][::-1])
    write(data, TASKS[1], "train", episodes[TASKS[1]][::-1])
    assert run_key(make_params(), TASKS[:1], data) == before


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 9},
        {"learning_rate": 2e-3},
        {"shuffle": False},
        {"normalise": False},
        {"weights": {"mujoco": 2.0}},
        {"loss_weights": {"mujoco": 2.0}},
        {"model": {"num_layers": 2}},
    ],
)
def test_a_changed_setting_changes_the_key(data: Path, change: dict[str, Any]):
    assert run_key(make_params(**change), TASKS, data) != run_key(make_params(), TASKS, data)


def test_seed_tasks_and_first_weights_change_the_key(data: Path, tmp_path: Path):
    params = make_params()
    before = run_key(params, TASKS, data)
    assert run_key(with_seed(params, 1), TASKS, data) != before
    assert run_key(params, TASKS[:1], data) != before
    keys = {before}
    for name in "ab":
        keys.add(run_key(params, TASKS, data, make_model(tmp_path / name, weights=name)))
    assert len(keys) == 3


@pytest.mark.parametrize("hidden", [{"save_every": 7}, {"evaluate_every": 3}])
def test_what_does_not_change_the_weights_does_not_change_the_key(
    data: Path, hidden: dict[str, int]
):
    assert run_key(make_params(**hidden), TASKS, data) == run_key(make_params(), TASKS, data)


# --- evaluation


def make_model(folder: Path, weights: str = "w", context: int = 8) -> Path:
    """The files of a model that are looked at before it is loaded."""
    write_json(folder / "config.json", {})
    write_json(folder / "tokenizer.json", {})
    (folder / "model.safetensors").write_text(weights)
    play = {"observation": "continuous", "action_size": 1}
    specs = {
        "mujoco-pendulum": TaskSpec("mujoco", context, **play),
        "metaworld-reach": TaskSpec("metaworld", context, **play),
        "notes": TaskSpec("text", context),
    }
    save_specs(folder, specs)
    return folder


def jobs(params: Params, model: Path, data: Path, **more: Any) -> dict[str, TaskEvaluation]:
    arguments = {"tasks": None, "episodes": None, "output": Path("out"), **more}
    made = make_jobs(params, Namespace(model=str(model), dataset=str(data), **arguments))
    return {job.task: job for job in made}


def changed(before: dict[str, TaskEvaluation], after: dict[str, TaskEvaluation]) -> set[str]:
    """The tasks that would be evaluated anew."""
    assert before.keys() == after.keys()
    return {task for task in before if before[task].key != after[task].key}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "model")


ALL = {"mujoco-pendulum", "metaworld-reach", "notes"}


def test_the_same_evaluation_has_the_same_keys(model: Path, dataset: Path):
    assert not changed(jobs(make_params(), model, dataset), jobs(make_params(), model, dataset))


def test_another_seed_plays_anew(model: Path, dataset: Path):
    params = make_params()
    before = jobs(params, model, dataset)
    after = jobs(with_seed(params, 1), model, dataset)
    assert changed(before, after) >= {"mujoco-pendulum", "metaworld-reach"}
    assert {job.seed for job in after.values()} == {1}


def test_another_model_plays_anew(model: Path, dataset: Path, tmp_path: Path):
    before = jobs(make_params(), model, dataset)
    weights = make_model(tmp_path / "other", weights="v")
    assert changed(before, jobs(make_params(), weights, dataset)) == ALL
    longer = make_model(tmp_path / "longer", context=9)
    assert changed(before, jobs(make_params(), longer, dataset)) == ALL


def test_other_environments_play_anew(model: Path, dataset: Path):
    params = make_params()
    other = params.mujoco.model_copy(update={"env": {"max_episode_steps": 7}})
    before = jobs(params, model, dataset)
    after = jobs(params.model_copy(update={"mujoco": other}), model, dataset)
    assert changed(before, after) == {"mujoco-pendulum"}
    assert after["mujoco-pendulum"].options["max_episode_steps"] == 7


def test_another_number_of_episodes_plays_anew(model: Path, dataset: Path):
    before = jobs(make_params(), model, dataset)
    after = jobs(make_params(), model, dataset, episodes=5)
    assert changed(before, after) >= {"mujoco-pendulum", "metaworld-reach"}
    assert after["mujoco-pendulum"].settings.episodes_of("mujoco") == 5


def test_another_test_split_is_read_anew(model: Path, dataset: Path, tmp_path: Path, data: Path):
    other = Path(shutil.copytree(dataset / "notes", tmp_path / "corpora" / "notes")).parent
    before = jobs(make_params(), model, dataset)
    assert not changed(before, jobs(make_params(), model, other)), "a place decides nothing"
    table = pa.table({"text": ["another note"]}, arrow_schema(text.DOMAIN.modality))
    write_shard(other / "notes" / "test-00000-of-00001.parquet", table.schema, [table])
    assert changed(before, jobs(make_params(), model, other)) == {"notes"}


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tasks.json"])
def test_all_that_decides_how_a_model_acts_is_in_its_checksum(model: Path, name: str):
    before = model_checksum(model)
    assert model_checksum(model) == before
    (model / name).write_text((model / name).read_text() + " ")
    assert model_checksum(model) != before


def test_what_does_not_decide_it_is_not(model: Path):
    before = model_checksum(model)
    (model / "training.json").write_text("{}")
    assert model_checksum(model) == before
