"""Studies: their variants, their aggregates, and one from the command line to its table."""

import csv
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from runs import make_params

from pipeline.errors import UserError
from pipeline.settings import TextCorpus
from trainer import study
from trainer.reporting.study_table import Run, aggregate_runs, check_study, write_study


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_kappa_shares_the_loss_out():
    (variant,) = study.kappa_variants([0.05])
    changed = study.change(make_params(), variant, seed=7, steps=3)
    assert changed.jat.model["observation_loss_coef"] == 0.05
    assert changed.jat.model["action_loss_coef"] == pytest.approx(0.95)
    assert changed.jat.model["hidden_size"] == 16
    assert (changed.seed, changed.jat.steps) == (7, 3)
    with pytest.raises(UserError, match="between 0 and 1"):
        study.kappa_variants([2.0])


def test_only_fixes_that_have_an_effect_are_tried():
    def names(task: str) -> set[str]:
        params = make_params().model_copy(update={"text": (TextCorpus(name="notes"),)})
        return {variant.name for variant in study.fix_variants(study.traits_of(task, params))}

    assert {"default", "no normalise", "half the context", "all published"} <= names("mujoco-ant")
    assert not names("mujoco-ant") & {"no use_image_rewards", "no amplify_discrete"}
    assert "no use_image_rewards" in names("atari-pong")
    assert {"no amplify_discrete", "no restrict_actions"} <= names("babyai-go-to")
    assert not names("notes") & {"half the context", "no refill_window", "no normalise"}


def test_some_variants_alone_are_tried():
    arguments = Namespace(study="reward", only=["without the reward"])
    assert [v.name for v in study.make_variants(arguments, {"mujoco"})] == ["without the reward"]
    with pytest.raises(UserError, match="'no reward' is none of: with the reward"):
        study.make_variants(Namespace(study="reward", only=["no reward"]), {"mujoco"})


@pytest.mark.parametrize("variant", study.FIXES, ids=lambda variant: variant.name)
def test_every_fix_is_a_setting_there_is(variant):
    assert study.change(make_params(), variant, seed=0, steps=None).jat


def test_the_interval_spans_the_seeds():
    rng = np.random.default_rng(0)
    apart = [{"task": rng.normal(centre, 0.01, 20)} for centre in (0.2, 0.8)]
    both = aggregate_runs(apart, 500, seed=0)
    assert both.low == pytest.approx(0.2, abs=0.05)
    assert both.high == pytest.approx(0.8, abs=0.05)
    one = aggregate_runs(apart[:1], 500, seed=0)
    assert one.high - one.low < 0.02


def test_a_task_whose_scores_cannot_be_normalised_is_left_out(tmp_path):
    runs = {
        "a": [Run({"loss": 1.0}, {"atari-venture": [0.0], "mujoco-pendulum": [475.4]}, {})],
    }
    assert "published scores" in write_study(tmp_path, runs, 20, seed=0)[-1]
    (row,) = csv.DictReader((tmp_path / "table.csv").open())
    assert "mujoco-pendulum" in row
    assert "atari-venture" not in row
    del runs["a"][0].returns["mujoco-pendulum"]
    with pytest.raises(UserError, match="no task of the study"):
        write_study(tmp_path, runs, 20, seed=0)


def test_a_study_is_trained_once_and_ends_in_a_table(dataset, monkeypatch):
    arguments = Namespace(
        study="reward",
        only=None,
        tasks=["mujoco-pendulum"],
        values=[],
        seeds=1,
        steps=2,
        episodes=2,
        dataset=str(dataset),
        output=Path("studies"),
    )
    study.main(make_params(), arguments)
    table = Path("studies/reward/table.csv").read_text()
    rows = list(csv.DictReader(table.splitlines()))
    assert [row["variant"] for row in rows] == ["with the reward", "without the reward"]
    assert all(float(row["low"]) <= float(row["iqm"]) <= float(row["high"]) for row in rows)
    assert rows[0]["loss"] != rows[1]["loss"]
    assert Path("studies/reward/figure.svg").read_text().startswith("<?xml")
    assert not Path("metrics").exists()

    def trained_again(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(study.run, "make_trainer", trained_again)
    monkeypatch.setattr(study.evaluate, "play", trained_again)
    study.main(make_params(), arguments)
    assert Path("studies/reward/table.csv").read_text() == table


@pytest.mark.parametrize("name", ["scores.json", "table.csv", "figure.svg"])
def test_tables_of_someone_else_are_left_alone(tmp_path, name):
    (tmp_path / name).write_text('{"my": "table"}')
    with pytest.raises(UserError, match="was not made by this command"):
        check_study(tmp_path)
