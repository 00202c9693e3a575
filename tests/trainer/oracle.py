"""The published JAT in plain numpy and float64, written from its description (arXiv 2402.09844).

It shares no line with ``trainer.model``: what the two agree on is not a fault of one of them.
Names of weights are the published ones, linear weights are (out, in). Shapes: B rows, T timesteps,
L tokens, H hidden, N heads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]
KAPPA = 0.005
"""Weight of the loss of observations; 1 - KAPPA is that of actions."""
HIDDEN = np.finfo(np.float64).min
"""Added to the logit of a token that is not to be seen; twice, it is minus infinity."""


@dataclass(frozen=True)
class Oracle:
    """The model of some weights; ``config`` has the fields that sizes do not tell."""

    weights: Arrays
    config: Mapping[str, Any]

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Losses and predictions of one batch, by the names that ``JatModel.forward`` has."""
        if "input_ids" in inputs:
            return self._text(inputs["input_ids"], inputs.get("pixel_values"), self._mask(inputs))
        return self._control(inputs)

    # ---------------------------------------------------------------- tasks

    def _control(self, inputs: Arrays) -> dict[str, np.ndarray]:
        mask = self._mask(inputs)
        weight = mask * inputs.get("loss_weight", np.ones(mask.shape))
        tokens = np.stack([self._observations(inputs), self._actions(inputs)], axis=2)
        rows, steps, _, width = tokens.shape
        hidden = self._transformer(
            tokens.reshape(rows, 2 * steps, width), np.repeat(mask, 2, axis=1)
        ).reshape(tokens.shape)
        of_observation, of_action = hidden[:, :, 0], hidden[:, :, 1]
        out: dict[str, np.ndarray] = {}
        if "continuous_actions" in inputs:
            actions = inputs["continuous_actions"]
            predicted = self._linear("continuous_decoder", of_observation)
            out["pred_actions"] = predicted[..., : actions.shape[-1]]
            error = ((predicted - self._tile(actions)) ** 2).mean(axis=-1)
            out["action_loss"] = (error * weight).sum() / mask.sum()
        else:
            out["pred_actions"] = of_observation @ self.weights["single_discrete_decoder.weight"].T
            error = surprise(out["pred_actions"], inputs["discrete_actions"])
            # The published model multiplies two means, where a mean of products is meant.
            out["action_loss"] = (error * mask).sum() / mask.sum() * weight.sum() / mask.sum()
        out["loss"] = (1 - KAPPA) * out["action_loss"]
        if "discrete_observations" in inputs:
            return out
        if "continuous_observations" in inputs:
            shown = inputs["continuous_observations"].shape[-1]
            predicted = self._linear("continuous_decoder", of_action)
            out["pred_observations"] = predicted[..., :shown]
            target = self._tile(self._with_rewards(inputs["continuous_observations"], inputs))
        else:
            predicted = self._draw(of_action.reshape(rows * steps, width))
            predicted = predicted.reshape(rows, steps, *predicted.shape[1:])
            out["pred_observations"] = predicted
            target = inputs["image_observations"]
        # What follows the action of t is seen at t + 1.
        error = ((predicted[:, :-1] - target[:, 1:]) ** 2).reshape(rows, steps - 1, -1).mean(-1)
        out["observation_loss"] = (error * weight[:, 1:]).sum() / mask[:, 1:].sum()
        out["loss"] = out["loss"] + KAPPA * out["observation_loss"]
        return out

    def _text(
        self, ids: np.ndarray, pixels: np.ndarray | None, mask: np.ndarray
    ) -> dict[str, np.ndarray]:
        tokens, patches = self.weights["transformer.wte.weight"][ids], 0
        if pixels is not None:
            kernel = self.weights["vit_encoder.projection.weight"]
            side = kernel.shape[-1]
            count = pixels.shape[-1] // side
            cells = pixels.reshape(len(pixels), 3, count, side, count, side)
            image = np.einsum("bciyjx,hcyx->bijh", cells, kernel)
            image = image.reshape(len(pixels), count * count, -1)
            image = image + self.weights["vit_encoder.projection.bias"]
            tokens, patches = np.concatenate([image, tokens], axis=1), count * count
        seen = np.concatenate([np.ones((len(ids), patches)), mask], axis=1)
        logits = self._transformer(tokens, seen) @ self.weights["single_discrete_decoder.weight"].T
        # Place i predicts token i + 1; what the last patch predicts is not trained.
        error = surprise(logits[:, patches:-1], ids[:, 1:]) * mask[:, 1:]
        return {"logits": logits, "loss": error.sum() / mask[:, 1:].sum()}

    def _mask(self, inputs: Arrays) -> np.ndarray:
        like = inputs.get("input_ids", inputs.get("rewards"))
        assert like is not None
        return inputs.get("attention_mask", np.ones(like.shape)).astype(np.float64)

    # ---------------------------------------------------------------- tokens

    def _observations(self, inputs: Arrays) -> np.ndarray:
        if "continuous_observations" in inputs:
            joined = self._with_rewards(inputs["continuous_observations"], inputs)
            return self._linear("continuous_encoder", self._tile(joined))
        if "discrete_observations" in inputs:
            symbols = self.weights["transformer.wte.weight"][inputs["discrete_observations"]]
            narrow = np.maximum(self._linear("multi_discrete_encoder.1", symbols), 0)
            flat = narrow.reshape(*narrow.shape[:2], -1)
            return self._with_rewards(self._linear("multi_discrete_encoder.4", flat), inputs)
        screens = inputs["image_observations"]
        seen = self._look(screens.reshape(-1, *screens.shape[2:]))
        return seen.reshape(*screens.shape[:2], -1)

    def _actions(self, inputs: Arrays) -> np.ndarray:
        if "continuous_actions" in inputs:
            return self._linear("continuous_encoder", self._tile(inputs["continuous_actions"]))
        return self.weights["transformer.wte.weight"][inputs["discrete_actions"]]

    def _with_rewards(self, x: np.ndarray, inputs: Arrays) -> np.ndarray:
        return np.concatenate([x, inputs["rewards"][..., None]], axis=-1)

    def _tile(self, x: np.ndarray) -> np.ndarray:
        return x[..., np.arange(self.config["max_continuous_size"]) % x.shape[-1]]

    # ---------------------------------------------------------------- layers

    def _linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _norm(self, name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def _transformer(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Hidden states (B, L, H); layers look at all earlier tokens and at near ones in turn."""
        length = x.shape[1]
        x = x + self.weights["transformer.wpe.weight"][:length]
        distance = np.arange(length)[:, None] - np.arange(length)
        for layer in range(self.config["num_layers"]):
            name = f"transformer.h.{layer}"
            seen = distance >= 0
            if layer % 2:
                seen = seen & (distance < self.config["window_size"])
            x = x + self._attention(name, self._norm(f"{name}.ln_1", x), seen, mask)
            inner = self._linear(f"{name}.mlp.c_fc", self._norm(f"{name}.ln_2", x))
            x = x + self._linear(f"{name}.mlp.c_proj", gelu(inner))
        return self._norm("transformer.ln_f", x)

    def _attention(
        self, name: str, x: np.ndarray, seen: np.ndarray, mask: np.ndarray
    ) -> np.ndarray:
        """Attention without a scale of the logits; a masked token counts as one out of sight."""
        rows, length, width = x.shape
        heads = self.config["num_heads"]

        def project(kind: str) -> np.ndarray:
            weight = self.weights[f"{name}.attn.attention.{kind}_proj.weight"]
            return (x @ weight.T).reshape(rows, length, heads, width // heads)

        logits = np.einsum("blnd,bmnd->bnlm", project("q"), project("k"))
        with np.errstate(over="ignore"):
            logits = np.where(seen, logits, HIDDEN)
            logits = logits + np.where(mask > 0, 0.0, HIDDEN)[:, None, None, :]
        shares = softmax(logits)
        mixed = np.einsum("bnlm,bmnd->blnd", shares, project("v")).reshape(rows, length, width)
        return self._linear(f"{name}.attn.attention.out_proj", mixed)

    # ---------------------------------------------------------------- screens

    def _look(self, x: np.ndarray) -> np.ndarray:
        """Screens (B, 4, 84, 84) in [-1, 1] to (B, H)."""
        for layer in (1, 2, 3):
            name = "image_encoder.module"
            x = lift(instance_norm(self._halve(f"{name}.conv{layer}", x)))
            x = self._weigh_channels(f"{name}.att{layer}", x)
        return self._linear("image_encoder.module.fc", x.reshape(len(x), -1))

    def _draw(self, x: np.ndarray) -> np.ndarray:
        """(B, H) to screens (B, 4, 84, 84)."""
        name = "image_decoder.module"
        x = self._linear(f"{name}.fc", x).reshape(len(x), 128, 11, 11)
        x = lift(instance_norm(self._double(f"{name}.deconv1", x)))
        nearest = np.arange(21) * 22 // 21
        x = self._weigh_channels(f"{name}.att1", x[:, :, nearest][..., nearest])
        x = lift(instance_norm(self._double(f"{name}.deconv2", x)))
        x = self._weigh_channels(f"{name}.att2", x)
        return np.tanh(self._double(f"{name}.deconv3", x))

    def _halve(self, name: str, x: np.ndarray) -> np.ndarray:
        """A convolution 3 × 3 with stride 2 and one pixel of padding."""
        kernel, side = self.weights[f"{name}.weight"], (x.shape[-1] + 1) // 2
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        out: Any = self.weights[f"{name}.bias"][:, None, None]
        for i, j in np.ndindex(3, 3):
            pixels = padded[:, :, i : i + 2 * side : 2, j : j + 2 * side : 2][..., :side, :side]
            out = out + np.einsum("bcyx,oc->boyx", pixels, kernel[:, :, i, j])
        return out

    def _double(self, name: str, x: np.ndarray) -> np.ndarray:
        """The transposed convolution 3 × 3 that doubles both sides."""
        kernel, side = self.weights[f"{name}.weight"], x.shape[-1]
        out = np.zeros((len(x), kernel.shape[1], 2 * side + 2, 2 * side + 2))
        for i, j in np.ndindex(3, 3):
            spread = np.einsum("bcyx,co->boyx", x, kernel[:, :, i, j])
            out[:, :, i : i + 2 * side : 2, j : j + 2 * side : 2] += spread
        return out[:, :, 1:-1, 1:-1] + self.weights[f"{name}.bias"][:, None, None]

    def _weigh_channels(self, name: str, x: np.ndarray) -> np.ndarray:
        """Squeeze and excitation: each channel times a gate of all channels' means."""
        narrow = np.maximum(x.mean(axis=(2, 3)) @ self.weights[f"{name}.fc.0.weight"].T, 0)
        gate = 1 / (1 + np.exp(-narrow @ self.weights[f"{name}.fc.2.weight"].T))
        return x * gate[:, :, None, None]


def gelu(x: np.ndarray) -> np.ndarray:
    """The tanh approximation of GELU."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def lift(x: np.ndarray) -> np.ndarray:
    """Leaky ReLU."""
    return np.where(x > 0, x, 0.01 * x)


def instance_norm(x: np.ndarray) -> np.ndarray:
    """Each channel of each picture with mean 0 and variance 1."""
    centred = x - x.mean(axis=(2, 3), keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=(2, 3), keepdims=True) + 1e-5)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def surprise(logits: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """-log of the share that ``softmax`` gives to ``ids``."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    total = np.log(np.exp(shifted).sum(axis=-1))
    return total - np.take_along_axis(shifted, ids[..., None], axis=-1)[..., 0]
