"""The acting half of an APPO expert in plain torch: a description and a safetensors file.

Sample Factory's checkpoint is a pickle that needs Sample Factory; what is published needs neither.
"""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import safetensors.torch
import torch
from pydantic import ConfigDict, Field, TypeAdapter
from safetensors import SafetensorError
from torch import Tensor, nn

from pipeline.errors import UserError

ACTIVATIONS = {"elu": nn.ELU, "relu": nn.ReLU, "tanh": nn.Tanh}
CONVOLUTIONS = {
    "convnet_simple": ((32, 8, 4), (64, 4, 2), (128, 3, 2)),
    "convnet_impala": ((16, 8, 4), (32, 4, 2)),
    "convnet_atari": ((32, 8, 4), (64, 4, 2), (64, 3, 1)),
}
"""Channels, kernel and stride of each layer (sample_factory.model.encoder)."""
EPSILON, CLIP = 1e-5, 5.0
"""Constants of the observation normaliser (sample_factory.algo.utils.running_mean_std)."""
STDDEV = (1e-4, 1e4)
"""Bounds of a Gaussian's deviation (sample_factory.algo.utils.action_distributions)."""

Size = Annotated[int, Field(gt=0, le=4096)]
"""Bounded, since descriptions come from anywhere and networks of them are built."""


@dataclass(frozen=True)
class Architecture:
    """What a network is made of; stored in ``config.json``."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    observation: Annotated[tuple[Size, ...], Field(min_length=1, max_length=3)]
    """Shape of one observation."""
    actions: Size
    """Number of discrete actions, or of continuous dimensions."""
    discrete: bool
    convolutions: Annotated[tuple[tuple[Size, Size, Size], ...], Field(max_length=8)]
    """Channels, kernel, stride."""
    layers: Annotated[tuple[Size, ...], Field(max_length=16)]
    """Sizes of the fully connected layers."""
    activation: str
    subtract: float
    divide: float
    """Observations are (x - subtract) / divide before they are normalised."""
    normalised: bool
    state_dependent_stddev: bool = False
    tanh_scale: float = 0.0

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Architecture":
        """The inverse of ``to_dict``; ValueError when it is none."""
        architecture = TypeAdapter(cls).validate_python(values)
        if architecture.activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {architecture.activation!r}")
        return architecture

    def to_dict(self) -> dict[str, Any]:
        """The architecture as plain values that JSON can hold."""
        return asdict(self)


class Network(nn.Module):
    """Observations -> parameters of the action distribution."""

    mean: Tensor
    variance: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = a = architecture
        if a.normalised:
            self.register_buffer("mean", torch.zeros(a.observation))
            self.register_buffer("variance", torch.ones(a.observation))
        activation = ACTIVATIONS[a.activation]
        convolutions: list[nn.Module] = []
        channels = a.observation[0]
        for out, kernel, stride in a.convolutions:
            convolutions += [nn.Conv2d(channels, out, kernel, stride), activation()]
            channels = out
        self.convolutions = nn.Sequential(*convolutions)
        with torch.no_grad():
            size = self.convolutions(torch.zeros(1, *a.observation)).numel()
        layers: list[nn.Module] = []
        for out in a.layers:
            layers += [nn.Linear(size, out), activation()]
            size = out
        self.layers = nn.Sequential(*layers)
        two = not a.discrete and a.state_dependent_stddev
        self.head = nn.Linear(size, a.actions * (2 if two else 1))
        if not a.discrete and not a.state_dependent_stddev:
            self.log_stddev = nn.Parameter(torch.zeros(a.actions))

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor | None]:
        """(n, ...) -> logits (n, actions) and None, or means and deviations, both (n, actions)."""
        a = self.architecture
        # In place: with images, memory for each step of this costs more than the network.
        x = observations.to(torch.float32, copy=True)
        if a.subtract != 0:
            x.sub_(a.subtract)
        if a.divide != 1:
            x.div_(a.divide)
        if a.normalised:
            x.sub_(self.mean).div_(torch.sqrt(self.variance + EPSILON)).clamp_(-CLIP, CLIP)
        x = self.head(self.layers(self.convolutions(x).flatten(1)))
        if a.discrete:
            return x, None
        if a.state_dependent_stddev:
            x, log_stddev = x.chunk(2, dim=1)
        else:
            log_stddev = self.log_stddev.expand_as(x)
            if a.tanh_scale > 0:
                x = torch.tanh(x / a.tanh_scale) * a.tanh_scale
        return x, log_stddev.exp().clamp(*STDDEV)


def from_sample_factory(
    weights: dict[str, Tensor], cfg: Any, observation: tuple[int, ...], actions: int, discrete: bool
) -> Network:
    """The network of a Sample Factory model: ``weights`` by its names, ``cfg`` its settings.

    UserError when the weights are of another kind, do not fit, or are not finite.
    """
    _check_kind(weights)
    image = len(observation) > 1
    if image and cfg.encoder_conv_architecture not in CONVOLUTIONS:
        raise UserError(
            f"expert recipe: 'encoder_conv_architecture' is '{cfg.encoder_conv_architecture}', "
            f"use one of {', '.join(CONVOLUTIONS)}"
        )
    hidden = cfg.encoder_conv_mlp_layers if image else cfg.encoder_mlp_layers
    architecture = Architecture(
        observation=tuple(observation),
        actions=actions,
        discrete=discrete,
        convolutions=CONVOLUTIONS[cfg.encoder_conv_architecture] if image else (),
        layers=(*hidden, *cfg.decoder_mlp_layers),
        activation=cfg.nonlinearity,
        subtract=float(cfg.obs_subtract_mean),
        divide=float(cfg.obs_scale),
        normalised=cfg.normalize_input,
        state_dependent_stddev=cfg.adaptive_stddev,
        tanh_scale=float(cfg.continuous_tanh_scale),
    )
    network = _fill(_build(architecture), renamed(weights, len(hidden)))
    if not all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values()):
        raise UserError("the weights are not finite")
    return network


def _check_kind(weights: dict[str, Tensor]) -> None:
    parts = [name.split(".") for name in weights]
    if any(names[0] in ("core", "actor_core") for names in parts):
        raise UserError("the network is recurrent: only functions of one observation are supported")
    inputs = {names[2] for names in parts if len(names) > 2 and names[1] == "encoders"}
    if inputs - {"obs"}:
        raise UserError(f"the network has other inputs than 'obs': {', '.join(sorted(inputs))}")


def _build(architecture: Architecture) -> Network:
    try:
        return Network(architecture)
    except RuntimeError as error:
        raise UserError(f"the layers do not fit together: {_last_line(error)}") from None


def _fill(network: Network, weights: dict[str, Tensor]) -> Network:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"the weights do not fit the network: {_last_line(error)}") from None
    return network.eval()


def _last_line(error: RuntimeError) -> str:
    return str(error).splitlines()[-1].strip()


def renamed(weights: dict[str, Tensor], hidden: int) -> dict[str, Tensor]:
    """Sample Factory's tensors under this module's names, those of the critic left out."""
    patterns = [
        (r"obs_normalizer\..*\.running_mean", "mean"),
        (r"obs_normalizer\..*\.running_var", "variance"),
        (r"(?:actor_)?encoder\..*\.conv_head\.(\d+)\.(\w+)", "convolutions.{}.{}"),
        (r"(?:actor_)?encoder\..*\.mlp_(?:head|layers)\.(\d+)\.(\w+)", "layers.{}.{}"),
        (r"action_parameterization\.distribution_linear\.(\w+)", "head.{}"),
        (r"action_parameterization\.learned_stddev", "log_stddev"),
    ]
    renamed = {}
    for name, tensor in weights.items():
        for pattern, ours in patterns:
            if match := re.fullmatch(pattern, name):
                renamed[ours.format(*match.groups())] = tensor.float().clone()
        if match := re.fullmatch(r"(?:actor_)?decoder\.mlp\.(\d+)\.(\w+)", name):
            # Each layer of an MLP is two modules, the linear one and its activation.
            renamed[f"layers.{int(match[1]) + 2 * hidden}.{match[2]}"] = tensor.float().clone()
    return renamed


def save(network: Network) -> bytes:
    """The weights as one safetensors file."""
    return safetensors.torch.save(
        {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    )


def load(path: Path, architecture: Architecture) -> Network:
    """Weights from safetensors; UserError when the file is missing, foreign or broken."""
    try:
        weights = safetensors.torch.load(path.read_bytes())
        return _fill(_build(architecture), weights)
    except FileNotFoundError:
        raise UserError(f"'{path}' does not exist: train the expert again") from None
    except SafetensorError as error:
        raise UserError(
            f"'{path}' is not a safetensors file ({error}): train the expert again"
        ) from None
    except UserError as error:
        raise UserError(f"'{path}' does not fit its config.json: {error}") from None
