"""From episodes, texts and images to the padded tensors that `JatModel` takes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

# Channel statistics of CLIP (Radford et al. 2021), in which the published model takes images.
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)

# dtype in which each field of an episode reaches the model
FIELDS = {
    "continuous_observations": np.float32,
    "discrete_observations": np.int64,
    "image_observations": np.uint8,
    "continuous_actions": np.float32,
    "discrete_actions": np.int64,
    "rewards": np.float32,
}


class JatProcessor(ProcessorMixin):
    """Tokenizes, resizes and pads.

    Args:
        tokenizer: GPT-2's, or any other whose size is the model's `vocab_size` at most.
        image_size: side of `pixel_values`, the model's `image_size`.
        mission_length: token ids that a mission takes in a discrete observation.
        image_mean, image_std: channel statistics that normalise images scaled to [0, 1].
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_size: int = 224,
        mission_length: int = 64,
        image_mean: Sequence[float] = IMAGE_MEAN,
        image_std: Sequence[float] = IMAGE_STD,
    ):
        super().__init__(tokenizer)
        self.image_size = image_size
        self.mission_length = mission_length
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)

    @property
    def pad_token_id(self) -> int:
        """What fills missions and texts: the tokenizer's padding, else its end of text, else 0."""
        for token_id in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if token_id is not None:
                return token_id
        return 0

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        text: Sequence[str] | None = None,
        images: Sequence[Any] | None = None,
        *,
        text_observations: Sequence[Sequence[str]] | None = None,
        loss_weight: Sequence[Any] | None = None,
        max_length: int | None = None,
        add_eos: bool = False,
        **fields: Sequence[Any],
    ) -> BatchFeature:
        """One batch, padded on the right.

        Text: B strings, with B images when these go first.
        Control: `fields` are any of `FIELDS`, each B arrays of shape (T_b, ...), one for each
        chunk of an episode. `rewards` must have been aligned by `previous_rewards`.

        Args:
            images: (height, width), (height, width, 3) or (height, width, 4) uint8, or PIL images.
            text_observations: the missions of each chunk, T_b strings, whose token ids are
                appended to `discrete_observations`.
            loss_weight: B scalars or arrays (T_b,).
            max_length: cuts chunks to so many timesteps, texts to so many tokens.
            add_eos: ends each text by the tokenizer's end of text.

        Returns:
            Tensors as `JatModel.forward` names them: `input_ids`, `pixel_values`, or the fields
            (B, T, ...) and `loss_weight`; and `attention_mask`, int64, 1 for what is valid.

        Raises:
            ValueError: nothing to process, an unknown field, or chunks of different lengths.
        """
        data: dict[str, torch.Tensor] = {}
        if images is not None:
            data["pixel_values"] = torch.stack([self._pixels(image) for image in images])
        if text is not None:
            data |= self._tokens(text, max_length, add_eos)
        if fields:
            if text_observations is not None:
                if "discrete_observations" not in fields:
                    raise ValueError("text_observations need discrete_observations")
                fields["discrete_observations"] = [
                    self.join_missions(symbols, missions)
                    for symbols, missions in zip(
                        fields["discrete_observations"], text_observations, strict=True
                    )
                ]
            data |= pad_chunks(fields, loss_weight, max_length)
        if not data:
            raise ValueError("give text, images, or fields of episodes")
        return BatchFeature(data)

    def join_missions(self, symbols: Any, missions: Sequence[str]) -> np.ndarray:
        """Symbols (N, S) and N missions → (N, S + mission_length) int64, as BabyAI observations.

        A mission that is longer is cut.
        """
        ids = {mission: self._mission_ids(mission) for mission in set(missions)}
        rows = np.stack([ids[mission] for mission in missions])
        return np.concatenate([np.asarray(symbols, np.int64), rows], axis=1)

    def _mission_ids(self, mission: str) -> np.ndarray:
        ids = self.tokenizer(mission)["input_ids"][: self.mission_length]
        row = np.full(self.mission_length, self.pad_token_id, np.int64)
        row[: len(ids)] = ids
        return row

    def _tokens(
        self, text: Sequence[str], max_length: int | None, add_eos: bool
    ) -> dict[str, torch.Tensor]:
        end = [self.tokenizer.eos_token_id] if add_eos else []
        rows = [self.tokenizer(string)["input_ids"] + end for string in text]
        rows = [np.asarray(ids[:max_length], np.int64) for ids in rows]
        input_ids, mask = pad(rows, self.pad_token_id)
        return {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(mask)}

    def _pixels(self, image: Any) -> torch.Tensor:
        """(3, image_size, image_size): short side resized, middle cut out, normalised."""
        array = np.asarray(image)
        if array.ndim == 2:
            array = np.repeat(array[:, :, None], 3, axis=2)
        pixels = torch.from_numpy(np.ascontiguousarray(array[:, :, :3])).permute(2, 0, 1)[None]
        height, width = pixels.shape[2:]
        side, short = self.image_size, min(height, width)
        size = (round(height * side / short), round(width * side / short))
        if size != (height, width):
            pixels = F.interpolate(pixels.float(), size, mode="bicubic", antialias=True)
            pixels = pixels.clamp(0, 255)
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        pixels = pixels[0, :, top : top + side, left : left + side].float() / 255
        mean = torch.tensor(self.image_mean)[:, None, None]
        return (pixels - mean) / torch.tensor(self.image_std)[:, None, None]


def previous_rewards(rewards: np.ndarray) -> np.ndarray:
    """The reward that came with each observation of an episode, from the one each action earned.

    (T,) → (T,) float32: [0, r_0, ..., r_{T-2}]. Do this before an episode is cut into chunks.
    """
    shifted = np.zeros(len(rewards), np.float32)
    shifted[1:] = rewards[:-1]
    return shifted


def pad(rows: Sequence[np.ndarray], value: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """B arrays (T_b, ...) → (B, max T_b, ...), and which places are valid, (B, max T_b) int64."""
    lengths = [len(row) for row in rows]
    padded = np.full((len(rows), max(lengths), *rows[0].shape[1:]), value, rows[0].dtype)
    mask = np.zeros(padded.shape[:2], np.int64)
    for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        padded[index, :length] = row
        mask[index, :length] = 1
    return padded, mask


def pad_chunks(
    fields: Mapping[str, Sequence[Any]],
    loss_weight: Sequence[Any] | None = None,
    max_length: int | None = None,
) -> dict[str, torch.Tensor]:
    """Pads `fields`, of B chunks each, to the longest chunk. See `JatProcessor.__call__`."""
    unknown = sorted(fields.keys() - FIELDS.keys())
    if unknown:
        raise ValueError(f"unknown fields {', '.join(unknown)}: use any of {', '.join(FIELDS)}")
    arrays = {
        name: [np.asarray(chunk)[:max_length] for chunk in chunks]
        for name, chunks in fields.items()
    }
    lengths = [len(chunk) for chunk in next(iter(arrays.values()))]
    if loss_weight is not None:
        arrays["loss_weight"] = [
            np.full(length, weight) if np.ndim(weight) == 0 else np.asarray(weight)[:max_length]
            for weight, length in zip(loss_weight, lengths, strict=True)
        ]
    data: dict[str, torch.Tensor] = {}
    for name, chunks in arrays.items():
        if [len(chunk) for chunk in chunks] != lengths:
            raise ValueError(
                f"the chunks of {name} are not as long as those of {next(iter(fields))}"
            )
        padded, mask = pad([cast(chunk, name) for chunk in chunks])
        data[name] = torch.from_numpy(padded)
        data["attention_mask"] = torch.from_numpy(mask)
    return data


def cast(chunk: np.ndarray, name: str) -> np.ndarray:
    """To the dtype of the field; floating images, which are in [-1, 1] already, stay floats."""
    dtype = FIELDS.get(name, np.float32)
    if dtype is np.uint8 and chunk.dtype.kind == "f":
        dtype = np.float32
    return chunk.astype(dtype, copy=False)


JatProcessor.register_for_auto_class()
