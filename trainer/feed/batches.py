"""Windows of episodes and texts, cut without overlap and padded only to the longest of a batch.

The rows of a batch may be of several tasks of one domain: each brings its own loss weight,
normalisation, sizes and actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from trainer.feed.data import TaskData, domain_defaults
from trainer.feed.decode import OLDER_FRAMES
from trainer.feed.specs import TaskSpec
from trainer.feed.tokenizer import tokenise
from trainer.model.processing_jat import JatProcessor, pad, pad_chunks

Batch = dict[str, torch.Tensor]
Rows = dict[str, list[Any]]
"""Field -> what it has for each window, without padding."""


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


class WindowSource(Protocol):
    """One split of one task, from which batches are made."""

    task: str
    domain: str
    group: str
    """Windows of one group can be rows of one batch: they have one domain and one modality."""
    lengths: np.ndarray
    """int64 ``(W,)``: the tokens of each window."""

    def rows(self, windows: np.ndarray) -> Rows:
        """What ``make_batch`` pads, for windows given by index."""
        ...


def make_source(
    data: TaskData,
    spec: TaskSpec,
    processor: JatProcessor,
    patches: int = 0,
    loss_weight: float | None = None,
) -> WindowSource:
    """The source of one task's split.

    ``patches`` are the tokens of a picture; ``loss_weight`` replaces an RL task's own.
    """
    if data.modality.observation == "text":
        return TextSource(data, spec, processor)
    if data.modality.observation == "vision":
        return VisionSource(data, spec, processor, patches)
    return EpisodeSource(data, spec, processor, loss_weight)


def make_batch(parts: Sequence[tuple[WindowSource, np.ndarray]]) -> Batch:
    """What ``JatModel.forward`` takes, for windows of sources of one group, in this order."""
    rows: Rows = {}
    for source, windows in parts:
        for name, values in source.rows(windows).items():
            rows.setdefault(name, []).extend(values)
    return _texts(rows) if "input_ids" in rows else _episodes(rows)


def _texts(rows: Rows) -> Batch:
    """``input_ids``, ``attention_mask`` (B, L) int64, and ``documents`` or ``pixel_values``."""
    ids, mask = pad(rows["input_ids"])
    batch = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    if "documents" in rows:
        documents, _ = pad(rows["documents"])
        batch["documents"] = torch.from_numpy(documents)
    if "pixel_values" in rows:
        batch["pixel_values"] = torch.stack(rows["pixel_values"])
    return batch


def _episodes(rows: Rows) -> Batch:
    """Episodes' fields (B, T, ...), ``attention_mask``, ``loss_weight``, and what rows have alone.

    ``frames`` are uint8 (B, T + 3, 84, 84); ``allowed_actions`` bool (B, A).
    """
    screens, counts = rows.pop("frames", None), rows.pop("num_actions", None)
    sizes: Batch = {}
    for kind in ("observation", "action"):
        name = f"continuous_{kind}s"
        widths = [values.shape[1] for values in rows.get(name, [])]
        if len(set(widths)) > 1:
            sizes[f"{kind}_sizes"] = torch.tensor(widths)
            rows[name] = [_widen(values, max(widths)) for values in rows[name]]
    batch = pad_chunks(rows, rows.pop("loss_weight"))
    if screens is not None:
        batch["frames"] = torch.from_numpy(pad(screens)[0])
    if counts is not None:
        batch["allowed_actions"] = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    return batch | sizes


def _widen(values: np.ndarray, width: int) -> np.ndarray:
    return np.pad(values, ((0, 0), (0, width - values.shape[1])))


def group_of(data: TaskData) -> str:
    """The group of a task's windows: its domain, its modality and, as padding would be symbols too,
    the number of its integers.
    """
    kind = f"{data.domain} {data.modality.observation}/{data.modality.action}"
    if data.modality.observation == "discrete":
        kind += f" {data.arrays['observations'].shape[1]}{' with texts' * data.modality.missions}"
    return kind


class EpisodeSource:
    """Windows of episodes. The reward that goes with an observation is the one before it:

    ``rewards[t]`` is what action t - 1 earned, 0 where an episode opens. The reward that the
    action of t itself earns is what the model would be told too early, as it has to choose it.
    """

    def __init__(
        self,
        data: TaskData,
        spec: TaskSpec,
        processor: JatProcessor,
        loss_weight: float | None = None,
    ) -> None:
        self.task, self.domain, self.spec = data.task, data.domain, spec
        self.group = group_of(data)
        self.modality = data.modality
        self._arrays = data.arrays
        offsets = data.arrays["offsets"]
        self.windows = cut(offsets, spec.context)
        self.lengths = 2 * self.windows.lengths
        self._rewards = np.zeros(data.steps, np.float32)
        self._rewards[1:] = data.arrays["rewards"][:-1]
        self._rewards[offsets[:-1]] = 0
        own = domain_defaults(data.domain).loss_weight
        self._weight = own(data.task) if loss_weight is None else loss_weight
        if data.modality.missions:
            none = np.empty((len(data.strings), 0), np.int64)
            self._missions = processor.join_missions(none, data.strings)

    def rows(self, windows: np.ndarray) -> Rows:
        """Observations, actions, rewards and the weight of their loss."""
        starts, lengths = self.windows.starts[windows], self.windows.lengths[windows]
        slices = [slice(s, s + n) for s, n in zip(starts, lengths, strict=True)]
        actions = self._arrays["actions"]
        rows: Rows = {
            "rewards": [self._rewards[s] for s in slices],
            "loss_weight": [self._weight] * len(slices),
        }
        if self.modality.observation == "image":
            pieces = self.windows.pieces[windows]
            rows["frames"] = [self._frames(s, int(p)) for s, p in zip(slices, pieces, strict=True)]
        else:
            rows[self.modality.observation_column] = [self._observe(s) for s in slices]
        if self.spec.num_actions is None:
            rows["continuous_actions"] = [self.spec.encode(actions[s]) for s in slices]
        else:
            rows["discrete_actions"] = [actions[s] for s in slices]
            rows["num_actions"] = [self.spec.num_actions] * len(slices)
        return rows

    def _frames(self, steps: slice, piece: int) -> np.ndarray:
        """The frames of some steps of an episode, after the three before them."""
        first = steps.start + OLDER_FRAMES * piece
        return self._arrays["frames"][first : steps.stop + OLDER_FRAMES * (piece + 1)]

    def _observe(self, steps: slice) -> np.ndarray:
        observations = self._arrays["observations"][steps]
        if self.modality.missions:
            missions = self._missions[self._arrays["missions"][steps]]
            return np.concatenate([observations, missions], axis=1)
        return self.spec.observe(observations)


class TextSource:
    """Documents one after the other, each with its end, cut into windows of equal length.

    A window tells which document each token is of, so that each is read alone.
    """

    def __init__(self, data: TaskData, spec: TaskSpec, processor: JatProcessor) -> None:
        self.task, self.domain, self.group = data.task, data.domain, data.domain
        self._tokens, self._offsets = tokenise(data, processor.tokenizer)
        self.windows = cut(np.array([0, len(self._tokens)]), spec.context)
        self.lengths = self.windows.lengths

    def rows(self, windows: np.ndarray) -> Rows:
        """Token ids, and the number of each token's document in its window, from 1."""
        rows: Rows = {"input_ids": [], "documents": []}
        for window in windows:
            start, length = self.windows.starts[window], self.lengths[window]
            places = np.arange(start, start + length)
            documents = np.searchsorted(self._offsets, places, side="right")
            rows["input_ids"].append(self._tokens[start : start + length].astype(np.int64))
            rows["documents"].append(documents - documents[0] + 1)
        return rows


class VisionSource:
    """Images, each with its text after it; a text that is longer than the context is cut."""

    def __init__(
        self, data: TaskData, spec: TaskSpec, processor: JatProcessor, patches: int
    ) -> None:
        self.task, self.domain, self.group = data.task, data.domain, data.domain
        self._data, self._processor = data, processor
        self._tokens, self._offsets = tokenise(data, processor.tokenizer)
        self._kept = np.minimum(np.diff(self._offsets), spec.context)
        self.lengths = self._kept + patches

    def rows(self, windows: np.ndarray) -> Rows:
        """Token ids and normalised pictures."""
        starts, lengths = self._offsets[windows], self._kept[windows]
        images = self._processor(images=[self._data.image(int(w)) for w in windows])
        return {
            "input_ids": [
                self._tokens[s : s + n].astype(np.int64)
                for s, n in zip(starts, lengths, strict=True)
            ],
            "pixel_values": list(images["pixel_values"]),
        }
