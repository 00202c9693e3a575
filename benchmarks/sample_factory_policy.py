"""An expert in Sample Factory's own network, which is how the published data was made."""

import logging
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from sample_factory.algo.utils.action_distributions import argmax_actions
from sample_factory.algo.utils.rl_utils import prepare_and_normalize_obs
from sample_factory.model.actor_critic import create_actor_critic
from sample_factory.model.model_utils import get_rnn_size
from sample_factory.utils.utils import log

from experts.appo.network import CONVOLUTIONS, Architecture, load, renamed
from experts.appo.recipe import Training, make_config
from pipeline.domains import get_domain
from pipeline.stage import read_json
from pipeline.types import Observations, Task, VectorEnv

NAMES = {layers: name for name, layers in CONVOLUTIONS.items()}


class SampleFactoryPolicy:
    """Acts step by step as ``sample_factory.enjoy`` does, with the weights of an expert's folder.

    A ``Policy``; its random draws are torch's global ones. Sample Factory's critic, which acting
    evaluates as well, keeps its initial weights: experts are published without one.
    """

    def __init__(self, task: Task, folder: Path) -> None:
        self.name, self.checksum = f"{task.id}-sample-factory", ""
        self.abandoned: dict[int, str] = {}
        log.setLevel(logging.WARNING)  # it tells the shape of every layer
        config = read_json(folder / "config.json")
        architecture = Architecture.from_dict(config["network"])
        self._cfg = make_config(
            Training(task.id, 1, 1, settings(task, architecture), {}, 0, folder)
        )
        self._argmax = config["mode"] == "argmax"
        self._column = task.modality.observation_column
        self._model = create_actor_critic(self._cfg, *spaces(architecture)).eval()
        weights = load(folder / "model.safetensors", architecture).state_dict()
        theirs: dict[str, Any] = self._model.state_dict()
        hidden = len(architecture.layers)
        for name, tensor in theirs.items():
            for ours in renamed({name: tensor}, hidden):
                theirs[name] = weights.pop(ours).reshape(tensor.shape)
        assert not weights, f"no place for {', '.join(weights)}"
        self._model.load_state_dict(theirs)

    def bind(self, envs: VectorEnv) -> None:
        """Nothing to prepare."""

    @torch.no_grad()
    def act(
        self, observations: Observations, ids: np.ndarray, started: np.ndarray, rewards: np.ndarray
    ) -> np.ndarray:
        """int64 (n,) or float32 (n, dims), not clipped to the action box."""
        rows = torch.from_numpy(np.ascontiguousarray(observations[self._column]))
        state = torch.zeros([len(rows), get_rnn_size(self._cfg)])
        found = self._model(prepare_and_normalize_obs(self._model, {"obs": rows}), state)
        actions = found["actions"]
        if self._argmax:
            actions = argmax_actions(self._model.action_distribution())
        return actions.cpu().numpy()


def settings(task: Task, architecture: Architecture) -> dict[str, Any]:
    """The recipe that makes a network of this architecture."""
    recipe = get_domain(task.domain).recipe
    assert recipe is not None
    image = bool(architecture.convolutions)
    layers = "encoder_conv_mlp_layers" if image else "encoder_mlp_layers"
    changes: dict[str, Any] = {
        layers: list(architecture.layers),
        "nonlinearity": architecture.activation,
        "normalize_input": architecture.normalised,
        "obs_subtract_mean": architecture.subtract,
        "obs_scale": architecture.divide,
        "adaptive_stddev": architecture.state_dependent_stddev,
        "continuous_tanh_scale": architecture.tanh_scale,
    }
    if image:
        changes["encoder_conv_architecture"] = NAMES[architecture.convolutions]
    return {**recipe(task), **changes, "rollout": 1, "batch_size": 1, "num_batches_per_epoch": 1}


def spaces(architecture: Architecture) -> tuple[gymnasium.spaces.Dict, gymnasium.Space]:
    """The spaces of observations and actions."""
    image = bool(architecture.convolutions)
    low, high, dtype = (0, 255, np.uint8) if image else (-np.inf, np.inf, np.float32)
    observation = gymnasium.spaces.Box(low, high, architecture.observation, dtype)
    box = gymnasium.spaces.Box(-1, 1, (architecture.actions,), np.float32)
    action = gymnasium.spaces.Discrete(architecture.actions) if architecture.discrete else box
    return gymnasium.spaces.Dict(obs=observation), action
