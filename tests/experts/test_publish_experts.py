import hashlib

import pytest
import torch

from experts import network, publish, sources
from experts.policy import load_policy
from pipeline import paths
from pipeline.errors import UserError
from pipeline.stage import write_json
from pipeline.tasks import get_task

TASK = get_task("mujoco-hopper")


@pytest.fixture
def expert(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = paths.expert_folder(TASK)
    folder.mkdir(parents=True)
    architecture = network.Architecture((11,), 3, False, (), (8,), "tanh", 0.0, 1.0, True)
    torch.manual_seed(0)
    weights = network.save(network.Network(architecture))
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "curve.csv").write_text("steps,seconds,return\n")
    config = {
        "kind": "network", "task": TASK.id, "network": architecture.to_dict(), "mode": "argmax",
        "weights_sha256": hashlib.sha256(weights).hexdigest(), "steps": 1234567,
    }  # fmt: skip
    score = {
        "mean": 1.5, "std": 0.25, "episodes": 9, "success": None, "random_mean": 0.1,
        "reference_mean": 2.0, "verdict": "weak",
    }  # fmt: skip
    write_json(folder / "config.json", config)
    write_json(folder / "score.json", score)
    return folder


def test_what_is_published_can_be_used_as_a_source(expert, tmp_path, monkeypatch):
    target = tmp_path / "public"
    publish.assemble([TASK], target)
    text = (target / "README.md").read_text()
    assert (
        "| mujoco-hopper | argmax | 1,234,567 | 1.50 ± 0.25 | 9 |  | 0.10 | 2.00 | weak |" in text
    )
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda *_, dry_run=False, **__: [] if dry_run else str(target),
    )
    copied = tmp_path / "copied"
    copied.mkdir()
    sources.hub(TASK, "hub:someone/experts@main", copied, {})
    assert load_policy(TASK, copied, 0).checksum == load_policy(TASK, expert, 0).checksum


def test_a_broken_expert_is_not_published(expert, tmp_path):
    (expert / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"model\.safetensors"):
        publish.assemble([TASK], tmp_path / "public")
    assert not (tmp_path / "public").exists()
