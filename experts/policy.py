"""An expert's folder -> a batched ``Policy``."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from experts.network import Architecture, Network, load
from pipeline.domains import get_domain
from pipeline.errors import UserError
from pipeline.seeds import sequence
from pipeline.shards import sha256
from pipeline.stage import read_json
from pipeline.types import Observations, Policy, Task, VectorEnv

MODES = ("sample", "argmax")


class NetworkPolicy:
    """Acts with a trained network, on the CPU and without gradients."""

    def __init__(
        self, network: Network, column: str, mode: str, seed: int, name: str, checksum: str
    ) -> None:
        self.name, self.checksum = name, checksum
        self.abandoned: dict[int, str] = {}
        self._network, self._column, self._mode = network, column, mode
        word = int(sequence(seed, "policy").generate_state(1, np.uint64)[0] >> 1)
        self._generator = torch.Generator().manual_seed(word)

    def bind(self, envs: VectorEnv) -> None:
        """UserError when the network was made for other observations or actions."""
        architecture = self._network.architecture
        there = spaces_of(envs)
        here = (architecture.observation, architecture.actions, architecture.discrete)
        if here != there:
            raise UserError(
                f"expert '{self.name}' expects (observation, actions, discrete) = {here}, "
                f"the environment has {there}"
            )

    @torch.inference_mode()
    def act(
        self, observations: Observations, ids: np.ndarray, started: np.ndarray, rewards: np.ndarray
    ) -> np.ndarray:
        """int64 (n,) or float32 (n, dims), not clipped to the action box (environments do)."""
        rows = torch.from_numpy(np.ascontiguousarray(observations[self._column]))
        parameters, stddev = self._network(rows)
        if stddev is None:
            if self._mode == "argmax":
                return parameters.argmax(dim=1).numpy()
            probabilities = torch.softmax(parameters, dim=1)
            return torch.multinomial(probabilities, 1, generator=self._generator)[:, 0].numpy()
        if self._mode == "argmax":
            return parameters.numpy()
        noise = torch.randn(parameters.shape, generator=self._generator)
        return (parameters + stddev * noise).numpy()


def spaces_of(envs: VectorEnv) -> tuple[tuple[int, ...], int, bool]:
    """Shape of one observation, number of actions (or of their dimensions), whether discrete."""
    discrete = hasattr(envs.action_space, "n")
    actions = envs.action_space.n if discrete else envs.action_space.shape[0]
    return tuple(envs.observation_space.shape), int(actions), discrete


def load_policy(task: Task, folder: Path, seed: int, threads: int = 1) -> Policy:
    """The policy of an expert folder: a network, Meta-World's script or the BabyAI bot.

    ``seed`` decides what a sampling policy does. UserError for a missing, foreign or broken file.
    """
    path = Path(folder) / "config.json"
    config = read_json(path)
    kind = config.get("kind") if isinstance(config, dict) else None
    if kind is None or config.get("task") != task.id:
        raise UserError(f"'{path}' does not describe an expert of {task.id}: train it again")
    if kind == "scripted":
        from experts.scripted import make_policy

        return make_policy(task)
    if kind == "bot":
        from experts.bot import make_policy

        return make_policy(task)
    if kind != "network":
        raise UserError(f"'{path}': unknown kind '{kind}'")
    torch.set_num_threads(threads)
    return _network_policy(task, path, config, seed)


def _network_policy(task: Task, path: Path, config: dict[str, Any], seed: int) -> NetworkPolicy:
    try:
        architecture = Architecture.from_dict(config["network"])
        mode, stated = config["mode"], config["weights_sha256"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"'{path}' is not an expert's description ({error!r})") from None
    if mode not in MODES:
        raise UserError(f"'{path}': 'mode' is '{mode}', not one of {', '.join(MODES)}")
    weights = path.with_name("model.safetensors")
    network = load(weights, architecture)
    checksum = sha256(weights)
    if checksum != stated:
        raise UserError(f"'{weights}' has another checksum than its config.json states")
    column = get_domain(task.domain).observation
    return NetworkPolicy(network, column, mode, seed, f"{task.id}-appo-{mode}", checksum)
