import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sample_factory.model.actor_critic import create_actor_critic

from experts import sources
from experts.appo import foreign, network
from experts.appo.recipe import Training, make_config
from experts.load import load_policy
from pipeline.domains import get_domain
from pipeline.engines import make_envs
from pipeline.errors import UserError
from pipeline.tasks import get_task

TASK = get_task("mujoco-pendulum")
NEWEST = "checkpoint_p0/checkpoint_000000020_4096.pth"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A run's folder as Sample Factory leaves it, with three checkpoints."""
    folder = tmp_path_factory.mktemp("published")
    recipe = {**get_domain("mujoco").recipe(TASK), "encoder_mlp_layers": [8]}
    cfg = make_config(Training(TASK.id, 1000, 8, recipe, {}, 0, folder))
    (folder / "config.json").write_text(json.dumps(vars(cfg), default=str))
    (folder / "checkpoint_p0").mkdir()
    spaces = gymnasium.spaces.Dict(obs=gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float32))
    for seed, (name, step) in enumerate(
        [
            (NEWEST, 20),
            ("checkpoint_p0/checkpoint_000000010_2048.pth", 10),
            ("checkpoint_p0/best_000000015_3072_reward_9.500.pth", 15),
        ]
    ):
        torch.manual_seed(seed)
        model = create_actor_critic(cfg, spaces, gymnasium.spaces.Box(-3, 3, (1,), np.float32))
        state = {
            "train_step": step, "env_steps": 204 * step, "best_performance": np.float64(9.5),
            "model": model.state_dict(), "optimizer": {}, "curr_lr": 1e-3,
        }  # fmt: skip
        torch.save(state, folder / name)
    return folder


@pytest.fixture
def run(published, tmp_path):
    """A copy to spoil."""
    return Path(shutil.copytree(published, tmp_path / "run"))


def take(source, folder, task=TASK):
    folder.mkdir()
    return sources.file(task, f"file:{source}", folder, {})


def set_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def set_state(path, change):
    state = torch.load(path, weights_only=False)
    change(state)
    torch.save(state, path)


def expected(checkpoint):
    state = torch.load(checkpoint, weights_only=False)
    return state["model"]["action_parameterization.distribution_linear.weight"]


def arrange(layout, run, tmp_path):
    """(what the source names, the checkpoint that should be taken)."""
    if layout == "a folder a task":
        (tmp_path / "repository").mkdir()
        run = run.rename(tmp_path / "repository" / TASK.id)
        return run.parent, run / NEWEST
    if layout == "cfg.json":
        (run / "config.json").rename(run / "cfg.json")
    elif layout == "best only":
        for path in run.glob("checkpoint_p0/checkpoint_*"):
            path.unlink()
        return run, next(run.glob("checkpoint_p0/best_*"))
    elif layout == "a checkpoint":
        path = next(run.glob("checkpoint_p0/best_*"))
        return path, path
    elif layout == "a checkpoint and its configuration":
        shutil.copy(run / NEWEST, tmp_path / "pendulum.pth")
        shutil.copy(run / "config.json", tmp_path)
        return tmp_path / "pendulum.pth", tmp_path / "pendulum.pth"
    return run, run / NEWEST


@pytest.mark.parametrize(
    "layout",
    [
        "a folder", "a folder a task", "cfg.json", "best only", "a checkpoint",
        "a checkpoint and its configuration",
    ],
)  # fmt: skip
def test_every_layout_of_sample_factory_becomes_an_expert(layout, run, tmp_path):
    source, checkpoint = arrange(layout, run, tmp_path)
    config = take(source, tmp_path / "expert")
    (tmp_path / "expert" / "config.json").write_text(json.dumps(config))
    policy = load_policy(TASK, tmp_path / "expert", 0)
    policy.bind(make_envs(TASK, [0]))
    architecture = network.Architecture.from_dict(config["network"])
    ours = network.load(tmp_path / "expert" / "model.safetensors", architecture)
    assert torch.equal(ours.head.weight, expected(checkpoint))
    assert config["steps"] in (204 * 20, 204 * 15)
    assert config["origin"]["path"] == str(source)
    assert config["origin"]["file"] == checkpoint.name
    assert not list((tmp_path / "expert").rglob("*.pth"))


def test_a_repository_of_sample_factory_on_the_hub(published, tmp_path, monkeypatch):
    listed = []

    def download(repo, revision, allow_patterns, dry_run=False):
        listed.append((repo, revision, dry_run))
        return [] if dry_run else str(published)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    config = sources.hub(TASK, "hub:someone/pendulum@v1", tmp_path, {})
    assert listed == [("someone/pendulum", "v1", True), ("someone/pendulum", "v1", False)]
    assert config["origin"]["repository"] == "someone/pendulum"
    assert config["origin"]["revision"] == "v1"
    assert config["origin"]["commit"] == published.name
    assert config["trained_as"] == TASK.id


def test_too_large_a_repository_is_not_downloaded(tmp_path, monkeypatch):
    class File:
        file_size = 2**31

    def download(repo, revision, allow_patterns, dry_run=False):
        assert dry_run
        return [File()]

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(UserError, match="MiB"):
        sources.hub(TASK, "hub:someone/pendulum@v1", tmp_path, {})


def test_other_content_is_another_expert(run):
    before = sources.file_checksum(TASK, f"file:{run}")
    set_config(run, obs_scale=2.0)
    changed = sources.file_checksum(TASK, f"file:{run}")
    shutil.copy(next(run.glob("checkpoint_p0/best_*")), run / NEWEST)
    assert len({before, changed, sources.file_checksum(TASK, f"file:{run}")}) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_rnn": True}, "recurrent policies cannot be imported"),
        ({"use_rnn": "no"}, "use_rnn"),
        ({"encoder_mlp_layers": [8, "8"]}, r"encoder_mlp_layers\.1"),
        ({"encoder_mlp_layers": [10**9]}, r"encoder_mlp_layers\.0"),
        ({"encoder_mlp_layers": [8, 8]}, "do not fit"),
        ({"encoder_mlp_layers": {"0": 8}}, "encoder_mlp_layers"),
        ({"nonlinearity": "__import__('os')"}, "nonlinearity"),
        ({"obs_scale": 0}, "obs_scale"),
        ({"obs_scale": "1"}, "obs_scale"),
        ({"normalize_input": None}, "normalize_input"),
        ({"normalize_input": False}, "do not fit"),
        ({"env": ["../../etc"]}, "env"),
    ],
)
def test_settings_that_cannot_be_imported_are_one_line(changes, message, run, tmp_path):
    set_config(run, **changes)
    with pytest.raises(UserError, match=message) as error:
        take(run, tmp_path / "expert")
    assert "\n" not in str(error.value)


def test_an_unknown_image_encoder_is_named(run, tmp_path):
    set_config(run, encoder_conv_architecture="resnet_impala")
    with pytest.raises(UserError, match="'resnet_impala', use one of"):
        take(run, tmp_path / "expert", get_task("atari-pong"))


@pytest.mark.parametrize(
    "text", ["", "[1]", "nonsense", "[" * 100_000, '{"env": 1e999}', "9" * 9000]
)
def test_a_broken_configuration_is_one_line(text, run, tmp_path):
    (run / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json"):
        take(run, tmp_path / "expert")


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 9000, '{"kind": "network"}', "[]"])
def test_a_broken_description_is_one_line(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json"):
        take(tmp_path, tmp_path / "expert")


def test_a_checkpoint_without_configuration_says_so(run, tmp_path):
    (run / "config.json").unlink()
    with pytest.raises(UserError, match=r"no config\.json"):
        take(run, tmp_path / "expert")


def test_an_expert_of_other_shapes_is_refused(run, tmp_path):
    with pytest.raises(UserError, match="is no expert of mujoco-ant"):
        take(run, tmp_path / "expert", get_task("mujoco-ant"))


def poison(state):
    state["model"]["action_parameterization.distribution_linear.weight"][:] = np.nan


def recur(state):
    state["model"]["core.core.weight_ih_l0"] = torch.zeros(2)


def second_input(state):
    state["model"]["encoder.encoders.depth.mlp_head.0.weight"] = torch.zeros(2)


def expand(state):
    state["model"]["huge"] = torch.zeros(1).expand(2**40)


def no_tensor(state):
    state["model"]["name"] = "text"


def sparse(state):
    state["model"]["critic_linear.weight"] = torch.zeros(2, 2).to_sparse()


def no_count(state):
    state["env_steps"] = "many"


def no_model(state):
    del state["model"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (poison, "not finite"), (recur, "recurrent"), (second_input, "depth"),
        (expand, "too large"), (no_tensor, "more than tensors"), (sparse, "more than tensors"),
        (no_count, "'env_steps' is no count"), (no_model, "no 'model'"),
    ],
)  # fmt: skip
def test_foreign_contents_are_one_line(change, message, run, tmp_path):
    set_state(run / NEWEST, change)
    with pytest.raises(UserError, match=message) as error:
        take(run, tmp_path / "expert")
    assert NEWEST in str(error.value)


def test_an_archive_that_unpacks_to_gigabytes_is_refused(run, tmp_path):
    with zipfile.ZipFile(run / NEWEST, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 2**24)
    with pytest.raises(UserError, match="too large"):
        take(run, tmp_path / "expert")


class Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def edit(data, edits):
    for kind, position, values in edits:
        at = position % max(1, len(data))
        if kind == "set":
            data = data[:at] + values + data[at + len(values) :]
        elif kind == "insert":
            data = data[:at] + values + data[at:]
        else:
            data = data[:at]
    return data


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    edits=st.lists(
        st.tuples(
            st.sampled_from(["set", "insert", "cut"]),
            st.integers(0, 2**20),
            st.binary(min_size=1, max_size=8),
        ),
        min_size=1,
        max_size=4,
    )
)
@example(edits=[("set", 97084, b"\x00")])
def test_a_corrupted_checkpoint_is_a_user_error_or_still_the_same(published, edits, tmp_path):
    """Bytes between an archive's entries mean nothing: a change there may go unnoticed."""
    path = tmp_path / "corrupted.pth"
    path.write_bytes(edit((published / NEWEST).read_bytes(), edits))
    shutil.copy(published / "config.json", tmp_path)
    folder = tmp_path / "expert"
    folder.mkdir(exist_ok=True)
    try:
        foreign.convert(TASK, path, folder, {})
    except UserError as error:
        assert "corrupted.pth" in str(error)  # noqa: PT017
        return
    written = network.safetensors.torch.load_file(folder / "model.safetensors")
    assert torch.equal(written["head.weight"], expected(published / NEWEST))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(["os system", "posix system", "builtins eval", "subprocess call"]), st.binary()
)
def test_a_pickle_that_calls_is_never_run(published, tmp_path, function, noise):
    """The pickle of a true checkpoint, replaced by one that calls a function, then noise."""
    mark = tmp_path / "mark"
    argument = f"touch {mark}" if function != "builtins eval" else f"open({str(mark)!r}, 'w')"
    module, name = function.split()
    code = f"c{module}\n{name}\n(V{argument}\ntR.".encode() + noise
    path = tmp_path / "calling.pth"
    with zipfile.ZipFile(published / NEWEST) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            bad = entry.filename.endswith("data.pkl")
            new.writestr(entry.filename, code if bad else old.read(entry))
    shutil.copy(published / "config.json", tmp_path)
    with pytest.raises(UserError, match=r"calling\.pth"):
        foreign.convert(TASK, path, tmp_path, {})
    assert not mark.exists()


def test_bad_checkpoints_end_the_stage_with_one_line(published, tmp_path):
    bad = {"mujoco-pendulum": "pickled", "mujoco-hopper": "cut", "mujoco-reacher": "foreign"}
    for name in bad.values():
        shutil.copytree(published, tmp_path / name)
    mark = tmp_path / "mark"
    (tmp_path / "pickled" / NEWEST).write_bytes(pickle.dumps({"model": Bomb(mark)}))
    data = (published / NEWEST).read_bytes()
    (tmp_path / "cut" / NEWEST).write_bytes(data[: len(data) // 2])
    torch.save({"weights": torch.zeros(3), "bomb": Bomb(mark)}, tmp_path / "foreign" / NEWEST)
    params = {
        "profile": "test",
        "workers": 1,
        "random_episodes": 2,
        "mujoco": {
            "tasks": list(bad),
            "expert": {"sources": {task: f"file:{name}" for task, name in bad.items()}},
            "collect": {"episodes": 10},
        },
    } | {name: {"collect": {"episodes": 10}} for name in ("metaworld", "babyai", "atari")}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    done = subprocess.run(
        [sys.executable, "-m", "experts.train", "--domain", "mujoco"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    for task, name in bad.items():
        assert task in line
        assert f"{name}/{NEWEST}" in line
    assert not mark.exists()
    assert not list((tmp_path / "artifacts" / "experts").glob("*/*/model.safetensors"))
