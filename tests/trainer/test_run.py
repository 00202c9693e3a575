"""The stages end to end on a dataset of a few steps: train, resume, load, evaluate, generate."""

import json
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from runs import make_params, train, weights

from pipeline.engines import make_envs
from pipeline.errors import UserError
from pipeline.stage import log
from pipeline.tasks import get_task
from trainer import evaluate, generate, run
from trainer.evaluation.jat_policy import load_policy
from trainer.feed.batches import make_batch
from trainer.feed.specs import load_specs
from trainer.training.loop import JatTrainer


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory) -> Path:
    """A model trained for eight steps; ``curve.csv`` lies beside it."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train(dataset)
    return folder / "artifacts" / "jat"


def test_a_model_folder_loads_without_this_package(trained):
    code = (
        "from transformers import AutoModelForCausalLM, AutoProcessor\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(trained)!r}, trust_remote_code=True)\n"
        f"processor = AutoProcessor.from_pretrained({str(trained)!r}, trust_remote_code=True)\n"
        "print(float(model(**processor(text=['go to the ball'])).loss))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=trained.parent
    )
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout.splitlines()[-1]) < 10


def test_training_leaves_a_curve_and_metrics(trained):
    curve = (trained / "curve.csv").read_text().splitlines()
    assert curve[0] == (
        "step,loss,learning_rate,loss_atari,loss_babyai,loss_mujoco,loss_text,loss_vision"
    )
    assert [line.split(",")[0] for line in curve[1:]] == ["2", "4", "6", "8"]
    metrics = json.loads((trained.parents[1] / "metrics" / "jat.json").read_text())
    assert metrics["steps"] == 8
    assert metrics["tokens"] > 0
    assert 0 < metrics["valid_token_share"] <= 1
    assert not list((trained.parent / "jat-training").glob("checkpoint-*"))


def test_a_run_that_is_killed_goes_on_to_the_same_weights(trained, dataset, monkeypatch):
    whole = JatTrainer.compute_loss
    seen: list[torch.Tensor] = []

    def compute_loss(self, model, inputs, *args, **kwargs):
        seen.append(inputs["tasks"])
        if len(seen) == 10:  # in the second half of the fifth step
            raise KeyboardInterrupt
        return whole(self, model, inputs, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(JatTrainer, "compute_loss", compute_loss)
        with pytest.raises(KeyboardInterrupt):
            train(dataset)
    assert not Path("artifacts/jat").exists()
    broken = Path("artifacts/jat-training/checkpoint-5")
    shutil.copytree(broken.with_name("checkpoint-4"), broken)
    (broken / "trainer_state.json").write_text('{"global_')
    output = train(dataset)
    expected = weights(trained)
    for name, value in weights(output).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
    assert (output / "curve.csv").read_text() == (trained / "curve.csv").read_text()


def test_adaptive_sampling_goes_on_with_the_same_weights(dataset, monkeypatch):
    """Killed in its third block; the weights of its fifth come from losses before and after."""
    adaptive = {"sampling": "adaptive", "adapt_every": 3, "log_every": 3, "steps": 15}
    adaptive["adapt_power"] = 50
    whole = train(dataset, "whole/jat", **adaptive)
    uniform = train(dataset, "uniform/jat", **{**adaptive, "adapt_power": 0})
    compute_loss = JatTrainer.compute_loss
    done: list[int] = []

    def interrupted(self, *args, **kwargs):
        done.append(1)
        if len(done) == 15:
            raise KeyboardInterrupt
        return compute_loss(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(JatTrainer, "compute_loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(dataset, **adaptive)
    resumed = train(dataset, **adaptive)
    assert (resumed / "curve.csv").read_text() == (whole / "curve.csv").read_text()
    differs = False
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name])
        differs |= not torch.equal(value, weights(uniform)[name])
    assert differs


def test_a_finished_run_is_left_alone_until_its_settings_change(trained, dataset):
    shutil.copytree(trained, "artifacts/jat")
    made = Path("artifacts/jat/model.safetensors").stat().st_ino
    train(dataset)
    assert Path("artifacts/jat/model.safetensors").stat().st_ino == made
    assert json.loads(Path("metrics/jat.json").read_text())["steps"] == 8
    train(dataset, steps=2)
    assert Path("artifacts/jat/model.safetensors").stat().st_ino != made


def test_divergence_is_one_line_and_keeps_the_last_checkpoint(dataset):
    with pytest.raises(UserError, match=r"diverged.*jat\.learning_rate"):
        train(dataset, learning_rate=1e30, warmup=0, log_every=1, save_every=1, steps=50)
    (checkpoint, *_) = Path("artifacts/jat-training").glob("checkpoint-*")
    assert all(value.isfinite().all() for value in weights(checkpoint).values())


@pytest.mark.parametrize(
    ("jat", "words"),
    [
        ({"model": {"hidden_size": 33, "num_heads": 2}}, "multiple of num_heads"),
        ({"tokenizer": "/nothing/here"}, "jat.tokenizer"),
        ({"sampling": "adaptive", "adapt_every": 1}, "jat.adapt_every"),
    ],
)
def test_bad_settings_are_one_line(dataset, jat, words):
    with pytest.raises(UserError) as error:
        train(dataset, **jat)
    assert words in str(error.value)


def score(trained: Path, dataset: Path, tasks: list[str] | None = None) -> dict[str, Any]:
    arguments = Namespace(
        model=str(trained),
        dataset=str(dataset),
        tasks=tasks,
        episodes=None,
        output=Path("artifacts/evaluation"),
    )
    evaluate.main(make_params(), arguments)
    return json.loads(Path("artifacts/evaluation/scores.json").read_text())


def test_a_model_is_trained_anew_only_for_what_decides_it(dataset, monkeypatch, caplog, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(dataset / "notes", data / "notes")
    published = []
    original = run.publish
    monkeypatch.setattr(run, "publish", lambda *a: published.append(a) or original(*a))
    caplog.set_level("INFO", logger="jat")
    monkeypatch.setattr(log, "propagate", True)

    def trains(**jat) -> str | None:
        """Why it trained; None where it did not."""
        published.clear()
        caplog.clear()
        train(data, tasks=("notes",), **{"steps": 2, **jat})
        assert bool(published) != ("is trained already" in caplog.text)
        return caplog.text if published else None

    assert trains() is not None
    assert trains() is None
    assert trains(save_every=7) is None
    assert "as this changed: settings learning_rate" in (trains(learning_rate=0.5) or "")
    assert "as this changed: settings learning_rate" in (trains() or "")
    shard = next((data / "notes").glob("train-*.parquet"))
    texts = pq.read_table(shard)["text"].to_pylist()
    swapped = pa.table({"text": [*texts[1:], texts[0]]}, schema=pq.read_schema(shard))
    pq.write_table(swapped, shard)
    assert "as this changed: data notes" in (trains() or "")
    real = run.closure.digests
    changed = {"trainer.model.losses_jat": "another"}
    monkeypatch.setattr(run.closure, "digests", lambda *a, **k: {**real(*a, **k), **changed})
    assert trains(accept_code=True) is None
    assert trains() is None
    changed["trainer.model.losses_jat"] = "a third"
    assert "as this changed: code trainer.model.losses_jat" in (trains() or "")
    assert trains(accept_code=True, learning_rate=0.5) is not None


def test_evaluation_plays_and_reads_and_resumes(trained, dataset, monkeypatch):
    tasks = ["mujoco-pendulum", "babyai-go-to-obj", "notes", "pictures"]
    scores = score(trained, dataset, tasks)
    assert scores["tasks"]["mujoco-pendulum"]["episodes"] == 2
    assert scores["tasks"]["mujoco-pendulum"]["mean"] > 0
    assert scores["tasks"]["babyai-go-to-obj"]["published"]["normalised"] is not None
    assert 1 < scores["corpora"]["notes"]["perplexity"] < 1000
    assert scores["corpora"]["pictures"]["tokens"] > 0
    again = Path("artifacts/evaluation/notes.json")
    again.unlink()

    def play(unit):
        raise AssertionError(f"{unit.task} was played again")

    monkeypatch.setattr(evaluate, "play", play)
    assert score(trained, dataset, tasks) == scores
    assert again.exists()


def test_evaluation_measures_the_loss_that_training_has(trained, dataset):
    scores = score(trained, dataset, ["pictures"])
    model, processor = evaluate.load_model(trained, evaluate.model_checksum(trained))
    data = evaluate.load(dataset, "pictures", "test")
    spec = evaluate.load_specs(trained)["pictures"]
    batch = make_batch([(evaluate.make_source(data, spec, processor), np.arange(5))])
    with torch.no_grad():
        assert scores["corpora"]["pictures"]["loss"] == pytest.approx(float(model(**batch).loss))


def test_a_task_the_model_does_not_know_is_one_line(trained, dataset):
    with pytest.raises(UserError, match="did you mean 'mujoco-pendulum'"):
        score(trained, dataset, ["mujoco-pendulm"])


def test_text_goes_on_from_a_prompt_and_from_a_picture(trained, tmp_path, capsys):
    picture = tmp_path / "picture.png"
    from PIL import Image

    Image.fromarray(np.zeros((50, 60, 3), np.uint8)).save(picture)
    common = {"model": str(trained), "tokens": 5, "temperature": 0.0, "seed": 0}
    text = generate.main(Namespace(prompt="all work", image=None, **common))
    assert text.startswith("all work")
    assert generate.main(Namespace(prompt="", image=picture, **common)) is not None
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for prompt, image in (("", None), ("x" * 500, None), ("x", tmp_path / "broken.png")):
        with pytest.raises(UserError):
            generate.main(Namespace(prompt=prompt, image=image, **common))


def test_the_command_line_ends_a_bad_call_by_one_line(tmp_path):
    empty = {"collect": {"episodes": 1}}
    params = {"profile": "test", **{d: empty for d in ("mujoco", "metaworld", "babyai", "atari")}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    command = [sys.executable, "-m", "trainer.run", "--params", str(tmp_path / "params.yaml")]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: the profile has no tasks")


def test_a_dataset_without_the_profiles_corpora_is_trained_on_without_them(dataset):
    tasks = ["mujoco-pendulum", "elsewhere"]
    assert run.without_missing_corpora(tasks, dataset) == ["mujoco-pendulum"]
    assert run.without_missing_corpora(["atari-qbert", "notes"], dataset) == [
        "atari-qbert",
        "notes",
    ]


def test_an_agent_can_be_told_to_remember_half_of_its_window(trained):
    context = load_specs(trained)["mujoco-pendulum"].context
    envs = make_envs(get_task("mujoco-pendulum"), [0])
    seen, ids, rewards = envs.reset(), np.arange(1), np.ones(1, np.float32)
    actions = []
    for share in (1.0, 0.5):
        policy = load_policy(trained, "mujoco-pendulum", context_share=share)
        policy.bind(envs)
        actions.append([policy.act(seen, ids, ids + k == 0, rewards) for k in range(context)])
    envs.close()
    whole, half = np.array(actions)[..., 0, 0]
    np.testing.assert_allclose(half[: context // 2], whole[: context // 2], rtol=1e-4)
    assert abs(half[context // 2 :] - whole[context // 2 :]).max() > 1e-3


def test_a_models_folder_of_someone_else_is_left_alone(trained, tmp_path):
    run.check_output(trained)
    place = Path(shutil.copytree(trained, tmp_path / "jat"))
    (place / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"mine\.txt' was not made by this command"):
        run.check_output(place)
    (place / run.RECORD).unlink()
    with pytest.raises(UserError, match=r"jat' was not made by this command"):
        run.check_output(place)
    work = tmp_path / "new-training"
    work.mkdir()
    (work / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"new-training' was not made by this command"):
        train(Path("nowhere"), str(tmp_path / "new"))


@pytest.mark.parametrize("place", [".", "..", "/"])
def test_a_model_needs_a_folder_of_its_own(place):
    with pytest.raises(UserError, match="names no folder of its own"):
        train(Path("nowhere"), place)


def test_scores_of_someone_else_are_left_alone(tmp_path):
    mine = tmp_path / "scores.json"
    mine.write_text('{"my": "scores"}')
    with pytest.raises(UserError, match=r"scores\.json' was not made by this command"):
        evaluate.main(make_params(), Namespace(output=tmp_path))
    assert mine.read_text() == '{"my": "scores"}'
