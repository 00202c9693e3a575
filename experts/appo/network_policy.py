"""A trained network as a batched ``Policy``."""

import numpy as np
import torch

from experts.appo.inputs import Inputs
from experts.appo.network import Network
from pipeline.errors import UserError
from pipeline.seeds import sequence
from pipeline.types import Observations, VectorEnv

MODES = ("sample", "argmax")


class NetworkPolicy:
    """Acts with a trained network, on the CPU and without gradients."""

    def __init__(
        self, network: Network, column: str, mode: str, seed: int, name: str, checksum: str
    ) -> None:
        self.name, self.checksum = name, checksum
        self.abandoned: dict[int, str] = {}
        self._network, self._column, self._mode = network, column, mode
        self._inputs = Inputs(network.architecture.observation)
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
        self._inputs = Inputs.of(envs.observation_space)

    @torch.inference_mode()
    def act(
        self, observations: Observations, ids: np.ndarray, started: np.ndarray, rewards: np.ndarray
    ) -> np.ndarray:
        """int64 (n,) or float32 (n, dims), not clipped to the action box (environments do)."""
        rows = torch.from_numpy(self._inputs.take(observations[self._column]))
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
    """Shape of a network's input, number of actions (or of their dimensions), whether discrete."""
    discrete = hasattr(envs.action_space, "n")
    actions = envs.action_space.n if discrete else envs.action_space.shape[0]
    return Inputs.of(envs.observation_space).shape, int(actions), discrete
