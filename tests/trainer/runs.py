"""Training runs of a tiny network, in this process or as a user starts them."""

import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

from pipeline.params import Params
from trainer import run

ROOT = Path(__file__).parents[2]
TASKS = ("mujoco-pendulum", "babyai-go-to-obj", "atari-pong", "notes", "pictures")
NETWORK = {
    "hidden_size": 16,
    "num_layers": 1,
    "num_heads": 2,
    "attention_types": [[["global"], 1]],
    "image_size": 32,
    "max_position_embeddings": 64,
}


def make_params(**jat: Any) -> Params:
    empty = {"collect": {"episodes": 1}}
    settings = {
        "model": NETWORK,
        "vocab_size": 300,
        "steps": 8,
        "batch_tokens": 64,
        "accumulation": 2,
        "domain_batch_tokens": {},
        "log_every": 2,
        "save_every": 3,
        "report_to": [],
        **jat,
    }
    return Params(
        profile="test",
        workers=1,
        mujoco=empty,
        metaworld=empty,
        babyai=empty,
        atari=empty,
        jat=settings,
        evaluation={"episodes": 2, "domain_episodes": {"mujoco": 2, "atari": 2}, "bootstrap": 20},
    )


def train(
    dataset: Path,
    output: str = "artifacts/jat",
    tasks: Sequence[str] = TASKS,
    pretrained: str | None = None,
    accept_code: bool = False,
    **jat: Any,
) -> Path:
    """Trains in this process and returns the model's folder."""
    arguments = Namespace(
        dataset=str(dataset),
        output=Path(output),
        tasks=list(tasks),
        pretrained=pretrained,
        accept_code=accept_code,
    )
    run.main(make_params(**jat), arguments)
    return Path(output)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def write_params(folder: Path, **jat: Any) -> Path:
    """A parameter file of the test's tiny network."""
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(make_params(**jat).model_dump(mode="json")))
    return path


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }


def launch(
    params: Path, *arguments: str, cwd: Path, processes: int = 1
) -> subprocess.CompletedProcess:
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["-m", "trainer.run", "--params", str(params), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True)
