"""Windows of episodes and texts, cut without overlap and padded only to the longest of a batch."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from pipeline.domains import get_domain
from trainer.data import OLDER_FRAMES, TaskData
from trainer.processing_jat import JatProcessor, pad, pad_chunks
from trainer.specs import TaskSpec
from trainer.tokenizer import tokenise

Batch = dict[str, Any]


@dataclass(frozen=True)
class Windows:
    """W pieces of a flat sequence of timesteps or tokens."""

    starts: np.ndarray
    """int64 ``(W,)``."""
    lengths: np.ndarray
    """int64 ``(W,)``."""
    pieces: np.ndarray
    """int64 ``(W,)``, the episode or text that each is cut from."""

    def __len__(self) -> int:
        return len(self.starts)


def cut(offsets: np.ndarray, size: int) -> Windows:
    """Windows of at most ``size`` that cover each piece ``offsets[p]:offsets[p + 1]`` once."""
    counts = -(-np.diff(offsets) // size)
    pieces = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = offsets[pieces] + within * size
    return Windows(starts, np.minimum(size, offsets[pieces + 1] - starts), pieces)


class Source(Protocol):
    """One split of one task, from which batches are made."""

    task: str
    domain: str
    lengths: np.ndarray
    """int64 ``(W,)``: the tokens of each window."""

    def batch(self, windows: np.ndarray) -> Batch:
        """What ``JatModel.forward`` takes, for windows given by index."""
        ...


def make_source(data: TaskData, spec: TaskSpec, processor: JatProcessor) -> Source:
    """The source of one task's split."""
    if data.domain == "text":
        return TextSource(data, spec, processor)
    if data.domain == "vision":
        return VisionSource(data, spec, processor)
    return EpisodeSource(data, spec, processor)


class EpisodeSource:
    """Windows of episodes. The reward that goes with an observation is the one before it:

    ``rewards[t]`` is what action t - 1 earned, 0 where an episode opens. The reward that the
    action of t itself earns is what the model would be told too early, as it has to choose it.
    """

    def __init__(self, data: TaskData, spec: TaskSpec, processor: JatProcessor) -> None:
        self.task, self.domain, self.spec = data.task, data.domain, spec
        self._arrays = data.arrays
        offsets = data.arrays["offsets"]
        self.windows = cut(offsets, spec.context)
        self.lengths = 2 * self.windows.lengths
        self._rewards = np.zeros(data.steps, np.float32)
        self._rewards[1:] = data.arrays["rewards"][:-1]
        self._rewards[offsets[:-1]] = 0
        self._weight = get_domain(data.domain).loss_weight(data.task)
        if data.domain == "babyai":
            none = np.empty((len(data.strings), 0), np.int64)
            self._missions = processor.join_missions(none, data.strings)

    def batch(self, windows: np.ndarray) -> Batch:
        """Episodes' fields (B, T, ...), ``attention_mask``, ``loss_weight``, ``num_actions``."""
        starts, lengths = self.windows.starts[windows], self.windows.lengths[windows]
        slices = [slice(s, s + n) for s, n in zip(starts, lengths, strict=True)]
        discrete = self.spec.num_actions is not None
        actions = self._arrays["actions"]
        fields = {
            get_domain(self.domain).observation: [
                self._observe(steps, int(piece))
                for steps, piece in zip(slices, self.windows.pieces[windows], strict=True)
            ],
            f"{'discrete' if discrete else 'continuous'}_actions": [
                self.spec.encode(actions[s]) for s in slices
            ],
            "rewards": [self._rewards[s] for s in slices],
        }
        batch: Batch = pad_chunks(fields, [self._weight] * len(slices))
        if discrete:
            batch["num_actions"] = self.spec.num_actions
        return batch

    def _observe(self, steps: slice, piece: int) -> np.ndarray:
        if self.domain == "atari":
            first = steps.start + OLDER_FRAMES * piece
            last = steps.stop + OLDER_FRAMES * (piece + 1)
            frames = self._arrays["frames"][first:last]
            stacks = np.lib.stride_tricks.sliding_window_view(frames, OLDER_FRAMES + 1, axis=0)
            return np.moveaxis(stacks, -1, 1)
        observations = self._arrays["observations"][steps]
        if self.domain == "babyai":
            missions = self._missions[self._arrays["missions"][steps]]
            return np.concatenate([observations, missions], axis=1)
        return self.spec.observe(observations)


class TextSource:
    """Documents one after the other, each with its end, cut into windows of equal length."""

    def __init__(self, data: TaskData, spec: TaskSpec, processor: JatProcessor) -> None:
        self.task, self.domain = data.task, data.domain
        self._tokens, _ = tokenise(data, processor.tokenizer)
        self.windows = cut(np.array([0, len(self._tokens)]), spec.context)
        self.lengths = self.windows.lengths

    def batch(self, windows: np.ndarray) -> Batch:
        """``input_ids`` and ``attention_mask``, int64 (B, L)."""
        rows = [
            self._tokens[self.windows.starts[w] : self.windows.starts[w] + self.lengths[w]]
            for w in windows
        ]
        ids, mask = pad([row.astype(np.int64) for row in rows])
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


class VisionSource:
    """Images, each with its text after it; a text that is longer than the context is cut."""

    def __init__(self, data: TaskData, spec: TaskSpec, processor: JatProcessor) -> None:
        self.task, self.domain = data.task, data.domain
        self._data, self._processor = data, processor
        self._tokens, self._offsets = tokenise(data, processor.tokenizer)
        self.lengths = np.minimum(np.diff(self._offsets), spec.context)

    def batch(self, windows: np.ndarray) -> Batch:
        """``pixel_values``, and ``input_ids`` and ``attention_mask`` as of a text."""
        starts, lengths = self._offsets[windows], self.lengths[windows]
        rows = [self._tokens[s : s + n] for s, n in zip(starts, lengths, strict=True)]
        ids, mask = pad([row.astype(np.int64) for row in rows])
        images = self._processor(images=[self._data.image(int(w)) for w in windows])
        return {
            "pixel_values": images["pixel_values"],
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
        }
