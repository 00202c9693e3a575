"""Experts that nobody trained: what play, publish and ship are tried on."""

import hashlib
from pathlib import Path
from typing import Any

import torch
import yaml

from experts.appo import network
from experts.appo.network_policy import spaces_of
from experts.train import ExpertJob, expert_jobs
from pipeline.engines import make_envs
from pipeline.params import load_params
from pipeline.stage import write_json
from pipeline.tasks import get_task

CURVE = "steps,seconds,return\n512,1.5,-60.0\n1024,3.25,-42.0\n"


def untrained(folder: Path, id: str, mode: str = "sample", **config: Any) -> Path:
    """A network with arbitrary weights as an expert's folder."""
    envs = make_envs(get_task(id), [0])
    shape, actions, discrete = spaces_of(envs)
    envs.close()
    convolutions = ((4, 8, 8), (4, 4, 4)) if len(shape) > 1 else ()
    scale = 255.0 if len(shape) > 1 else 1.0
    architecture = network.Architecture(
        shape, actions, discrete, convolutions, (8,), "tanh", 0.0, scale, True
    )
    torch.manual_seed(0)
    weights = network.save(network.Network(architecture))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "curve.csv").write_text(CURVE)
    described = {
        "format": 1, "kind": "network", "task": id, "network": architecture.to_dict(),
        "mode": mode, "weights_sha256": hashlib.sha256(weights).hexdigest(), "steps": 1024,
    }  # fmt: skip
    write_json(folder / "config.json", {**described, **config})
    return folder


def parameters(id: str, **expert: Any) -> dict[str, Any]:
    """A profile of one task."""
    groups: dict[str, Any] = {
        name: {"collect": {"episodes": 1}} for name in ("mujoco", "metaworld", "babyai", "atari")
    }
    settings = {"steps": 1000, "envs": 8, "gate_episodes": 20, **expert}
    groups[get_task(id).domain] |= {"tasks": [id], "expert": settings}
    return {"profile": "test", "seed": 3, "workers": 1, "random_episodes": 4, **groups}


def project(id: str, **expert: Any) -> ExpertJob:
    """Here: ``params.yaml`` and the expert that its stage would have left, but for its score."""
    Path("params.yaml").write_text(yaml.safe_dump(parameters(id, **expert)))
    (job,) = expert_jobs(load_params(), get_task(id).domain)
    untrained(
        job.folder, id, job.mode or "sample", envs=job.envs, recipe=job.recipe, env=job.env,
        seed=job.seed, versions={"numpy": "2.3.5"}, source="train", fingerprint=job.fingerprint,
    )  # fmt: skip
    return job
