from argparse import Namespace
from typing import Any

import pytest
import torch

from experts import train
from experts.appo.recipe import Training, make_config
from pipeline.errors import UserError
from pipeline.params import Params, load_params


def params_with(expert: str, tmp_path) -> Params:
    path = tmp_path / "params.yaml"
    domains = "".join(
        f"{name}: {{collect: {{episodes: 10}}}}\n" for name in ("metaworld", "babyai")
    )
    path.write_text(
        "profile: test\nworkers: 2\natari: {collect: {episodes: 10}}\n" + domains + "mujoco:\n"
        "  tasks: [mujoco-pendulum, mujoco-reacher]\n  collect: {episodes: 10}\n"
        f"  expert: {{{expert}}}\n"
    )
    return load_params(str(path))


def test_a_task_asks_for_its_cores_and_gpus(tmp_path, monkeypatch):
    asked: dict[str, Any] = {}

    def fan_out(function, units, **options):
        asked.update(options, units=units)
        raise UserError("enough")

    monkeypatch.setattr(train, "fan_out", fan_out)
    params = params_with("cpus: 3, gpus: 0.25, recipe: {num_epochs: 3}", tmp_path)
    with pytest.raises(UserError, match="enough"):
        train.main(params, Namespace(domain="mujoco", accept_code=False))
    assert (asked["cpus"], asked["gpus"]) == (3, 0.25)
    assert [unit.threads for unit in asked["units"]] == [3, 3]
    assert [unit.recipe["device"] for unit in asked["units"]] == ["gpu", "gpu"]


def test_one_core_and_no_gpu_by_default(tmp_path):
    for unit in train.expert_jobs(params_with("envs: 8", tmp_path), "mujoco"):
        assert unit.threads == 1
        assert "device" not in unit.recipe


def test_threads_do_not_make_an_expert_anew(tmp_path):
    one, two = (
        train.expert_jobs(params_with(f"cpus: {cpus}", tmp_path), "mujoco")[0] for cpus in (1, 2)
    )
    assert (one.threads, two.threads) == (1, 2)
    assert one.fingerprint == two.fingerprint


@pytest.mark.parametrize("expert", ["cpus: 0", "gpus: -1", "cpus: many"])
def test_impossible_resources_are_refused(tmp_path, expert):
    with pytest.raises(UserError, match=f"mujoco.expert.{expert[:4]}"):
        params_with(expert, tmp_path)


def test_a_gpu_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    training = Training("mujoco-pendulum", 100, 16, {"device": "gpu"}, {}, 1, tmp_path)
    with pytest.raises(UserError, match=r"mujoco-pendulum.*no CUDA device.*'gpus: 0'"):
        make_config(training)
