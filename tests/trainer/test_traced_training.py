"""The code that trains, decodes and evaluates is among what their keys are made of."""

from argparse import Namespace

import pytest
from runs import make_params, train
from tracing import check

from pipeline import engines
from pipeline.engines import engine_of
from pipeline.tasks import get_task
from trainer import evaluate, run
from trainer.training.options import make_options
from trainer.training.parts import prepare


def test_training_and_evaluation(dataset, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    params = make_params()

    def go() -> None:
        options = make_options(params, tmp_path / "work")
        parts = prepare(params.jat, 0, dataset, list(run_tasks), None)
        run.make_trainer(params, parts, options, tmp_path / "work").train()

    run_tasks = ("mujoco-pendulum", "babyai-go-to-obj", "notes", "pictures")
    check(go, prepare, make_options, run.make_trainer, without=run.WATCHING)


@pytest.mark.parametrize("task", ["mujoco-pendulum", "notes"])
def test_evaluation(dataset, monkeypatch, tmp_path, task):
    monkeypatch.chdir(tmp_path)
    train(dataset, tasks=("mujoco-pendulum", "notes"), steps=2)
    arguments = Namespace(
        model="artifacts/jat", dataset=str(dataset), tasks=[task], episodes=1,
        output=tmp_path / "evaluation",
    )  # fmt: skip
    (job,) = evaluate.make_jobs(make_params(), arguments)
    if job.spec.episodic:
        engine = (engines.make_envs, engine_of(get_task(task), {}).make)
        check(lambda: evaluate.play(job), evaluate.play, *engine)
    else:
        check(lambda: evaluate.read(job), evaluate.read)
