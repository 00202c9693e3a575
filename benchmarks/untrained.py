"""Collections for benchmarks: by experts where there are some, else by untrained networks."""

import hashlib
from pathlib import Path

import torch

from dataset_builder.collect import TaskCollection
from experts.appo.network import CONVOLUTIONS, Architecture, Network, save
from pipeline.domains import get_domain
from pipeline.engines import make_envs
from pipeline.seeds import sequence
from pipeline.settings import Collect
from pipeline.stage import write_json
from pipeline.types import Task

SEED = 0


def make_job(
    task: Task, experts: Path | None, folder: Path, slots: int, per_slot: int
) -> TaskCollection:
    """The collection of one task into ``folder``, by its expert of ``experts`` if there is one."""
    domain = get_domain(task.domain)
    expert = folder / "expert"
    if experts is not None and (experts / task.domain / task.id / "config.json").exists():
        expert = experts / task.domain / task.id
    elif domain.recipe is not None:
        write_untrained(task, expert)
    budget = Collect(episodes=1, slots=slots, episodes_per_slot=per_slot)
    decides = {"seed": SEED, "env": {}}
    return TaskCollection(task, budget, decides, {}, domain.policy, expert, folder)


def write_untrained(task: Task, folder: Path) -> None:
    """An expert's folder with a network of the domain's recipe, whose weights are random."""
    domain = get_domain(task.domain)
    assert domain.recipe is not None
    envs, recipe = make_envs(task, [SEED]), domain.recipe(task)
    image, discrete = task.modality.observation == "image", task.modality.action == "discrete"
    architecture = Architecture(
        observation=tuple(envs.observation_space.shape),
        actions=int(envs.action_space.n if discrete else envs.action_space.shape[0]),
        discrete=discrete,
        convolutions=CONVOLUTIONS[recipe["encoder_conv_architecture"]] if image else (),
        layers=tuple(recipe.get("encoder_conv_mlp_layers", (512,)))
        if image
        else tuple(recipe["encoder_mlp_layers"]),
        activation=recipe["nonlinearity"],
        subtract=0.0,
        divide=float(recipe.get("obs_scale", 1.0)),
        normalised=recipe["normalize_input"],
    )
    envs.close()
    with torch.random.fork_rng():
        torch.manual_seed(int(sequence(SEED, task.id).generate_state(1)[0]))
        weights = save(Network(architecture))
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights)
    config = {
        "task": task.id,
        "kind": "network",
        "network": architecture.to_dict(),
        "mode": domain.expert_mode,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    write_json(folder / "config.json", config)
