"""How a Gymnasium space becomes the dataset's columns, and a task's action an environment's.

An observation becomes one row of numbers, and one text where the space holds text:

- ``Box`` of floats: continuous, flattened in C order.
- ``Discrete``, ``MultiDiscrete``, ``MultiBinary``: discrete, flattened; values count from 0.
- ``Box`` of uint8 with two spatial sides of at least 16, and 1, 3 or 4 channels last, 1 or 3
  channels first, or none: image, grey (ITU-R 601 luma), 84×84 (area interpolation), the last four
  frames; at a reset all four are the first frame. Four channels first are grey frames that are
  stacked already: the newest counts.
- Other ``Box`` of integers: discrete if all values are within [0, 255], otherwise continuous.
- ``Dict`` and ``Tuple``: their leaves in the order of the space, nested ones depth first. Texts
  are joined by newlines. Of the others: all discrete, concatenated; a single image; else
  continuous and flattened as ``gymnasium.spaces.flatten`` does, ``Discrete`` as one-hot.

An action is one integer (``Discrete``; ``MultiDiscrete`` and ``MultiBinary`` of at most 1024
combinations, numbered in C order) or a row of floats (``Box`` of floats). All else is an error.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from gymnasium import Space, spaces

from pipeline.errors import UserError

SIDE = 84
"""Height and width of a stored frame."""
STACK = 4
"""Frames in an image observation."""
PICTURE_SIDE = 16
"""The smallest side of a uint8 Box that is taken for a picture and not for a grid of symbols."""
MOST_ACTIONS = 1024
"""The most combinations of a MultiDiscrete or MultiBinary action that become one integer."""
MOST_NUMBERS = 2**20
"""The widest row of numbers of one observation (one-hot leaves can be very wide)."""

Path = tuple[str | int, ...]
"""Keys and indices that lead from an observation to one of its leaves."""


@dataclass(frozen=True, eq=False)
class ObservationLayout:
    """How one environment's observation becomes a row of numbers and a text."""

    kind: Literal["continuous", "discrete", "image"]
    numbers: tuple[tuple[Path, Space], ...]
    """The leaves that make the row, in order."""
    texts: tuple[Path, ...]
    """The leaves that make the text, in order; none if the task has no text."""
    nvec: np.ndarray
    """int64 (D,): how many values each integer has; empty unless the kind is discrete."""
    observation_space: spaces.Box
    """Space of one row: float32 (D,), uint8 or int64 (D,), or uint8 (4, 84, 84)."""

    @classmethod
    def from_space(cls, space: Space) -> "ObservationLayout":
        """The layout of an environment's observation space; UserError if it has none."""
        leaves = [(path, leaf, _kind(leaf)) for path, leaf in _leaves(space)]
        texts = tuple(path for path, _, kind in leaves if kind == "text")
        numbers = tuple((path, leaf) for path, leaf, kind in leaves if kind != "text")
        kinds = {kind for _, _, kind in leaves} - {"text"}
        nvec = np.zeros(0, np.int64)
        if not numbers:
            raise _refused(space, "holds no numbers")
        if "image" in kinds:
            if len(numbers) > 1:
                raise _refused(space, "holds an image beside other numbers")
            box = spaces.Box(0, 255, (STACK, SIDE, SIDE), np.uint8)
            return cls("image", numbers, texts, nvec, box)
        if kinds == {"discrete"}:
            nvec = np.concatenate([_value_counts(leaf) for _, leaf in numbers])
            dtype = np.uint8 if nvec.max(initial=0) <= 256 else np.int64
            _check_width(space, len(nvec))
            box = spaces.Box(np.zeros(len(nvec), dtype), (nvec - 1).astype(dtype), dtype=dtype)
            return cls("discrete", numbers, texts, nvec, box)
        width = sum(spaces.flatdim(leaf) for _, leaf in numbers)
        _check_width(space, width)
        box = spaces.Box(-np.inf, np.inf, (width,), np.float32)
        return cls("continuous", numbers, texts, nvec, box)

    @property
    def column(self) -> str:
        """The dataset column of the numbers, such as ``continuous_observations``."""
        return f"{self.kind}_observations"

    def encode(self, observation: Any) -> np.ndarray:
        """The row of an observation: (D,), or for an image its one new frame, uint8 (84, 84)."""
        leaves = [(leaf, _at(observation, path)) for path, leaf in self.numbers]
        parts: list[Any]
        if self.kind == "image":
            return grey_frame(leaves[0][1])
        if self.kind == "discrete":
            parts = [_counted_from_zero(leaf, value) for leaf, value in leaves]
        elif len(leaves) == 1:
            parts = [np.ravel(leaves[0][1])]
        else:
            parts = [spaces.flatten(leaf, value) for leaf, value in leaves]
        row = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return row.astype(self.observation_space.dtype)

    def text(self, observation: Any) -> str | None:
        """The text of an observation, ``None`` if the task has no text."""
        if not self.texts:
            return None
        return "\n".join(str(_at(observation, path)) for path in self.texts)


@dataclass(frozen=True, eq=False)
class ActionLayout:
    """How a task's flat action becomes an environment's own, and back."""

    kind: Literal["continuous", "discrete"]
    space: Space
    """The environment's own action space."""
    action_space: spaces.Discrete | spaces.Box
    """Space of a task's action: ``Discrete(n)``, or a float32 ``Box`` (A,)."""

    @classmethod
    def from_space(cls, space: Space) -> "ActionLayout":
        """The layout of an environment's action space; UserError if it has none."""
        if isinstance(space, spaces.Box) and space.dtype is not None and space.dtype.kind == "f":
            with np.errstate(over="ignore"):  # float64 bounds may exceed float32
                low, high = (bound.ravel().astype(np.float32) for bound in (space.low, space.high))
            return cls("continuous", space, spaces.Box(low, high, dtype=np.float32))
        if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
            raise UserError(
                f"actions {_shown(space)} are not supported: the environment must act by Discrete, "
                "MultiDiscrete, MultiBinary or a Box of floats (wrap it)"
            )
        count = math.prod(_value_counts(space).tolist())
        if count > MOST_ACTIONS and not isinstance(space, spaces.Discrete):
            raise UserError(
                f"actions {_shown(space)} have {count} combinations, more than the {MOST_ACTIONS} "
                "that can be told apart: wrap the environment so that it has fewer"
            )
        return cls("discrete", space, spaces.Discrete(count))

    def applied(self, actions: np.ndarray) -> np.ndarray:
        """Actions (n, ...) as an environment gets them: int64 (n,), or float32 (n, A) clipped.

        ValueError if an integer is not one of the actions.
        """
        if isinstance(self.action_space, spaces.Box):
            low, high = self.action_space.low, self.action_space.high
            return np.clip(actions, low, high).astype(np.float32, copy=False)
        actions = np.asarray(actions, np.int64)
        if actions.size and not 0 <= actions.min() <= actions.max() < self.action_space.n:
            raise ValueError(f"actions must be within [0, {self.action_space.n}): {actions}")
        return actions

    def decode(self, action: Any) -> Any:
        """The environment's own action for one action of the task (an integer, or floats (A,))."""
        if isinstance(self.space, spaces.Box):
            # Rounding to float32 may have led past bounds in float64.
            own = np.reshape(action, self.space.shape).astype(self.space.dtype)
            return np.asarray(np.clip(own, self.space.low, self.space.high))
        counts = _value_counts(self.space)
        dtype: Any = self.space.dtype
        digits = int(action) // _strides(counts) % counts + _starts(self.space)
        digits = digits.astype(dtype)
        return digits[0] if isinstance(self.space, spaces.Discrete) else self._shaped(digits)

    def encode(self, action: Any) -> Any:
        """The task's action for one of the environment's own: an int, or float32 (A,)."""
        if isinstance(self.space, spaces.Box):
            return np.ravel(action).astype(np.float32)
        digits = _counted_from_zero(self.space, action)
        return int(digits @ _strides(_value_counts(self.space)))

    def _shaped(self, digits: np.ndarray) -> np.ndarray:
        return digits.reshape(self.space.shape or ())


def grey_frame(picture: np.ndarray) -> np.ndarray:
    """uint8 (84, 84): a picture (H, W), (H, W, C) or (C, H, W) in grey, resized by area."""
    picture = np.asarray(picture)
    if picture.ndim == 3 and not _channels_last(picture.shape):
        picture = picture[-1] if picture.shape[0] == STACK else np.moveaxis(picture, 0, -1)
    picture = np.ascontiguousarray(picture)
    if picture.ndim == 3:
        picture = (
            picture[..., 0]
            if picture.shape[-1] == 1
            else cv2.cvtColor(
                picture,
                cv2.COLOR_RGB2GRAY if picture.shape[-1] == 3 else cv2.COLOR_RGBA2GRAY,
            )
        )
    return np.asarray(cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA))


def first_stack(frame: np.ndarray) -> np.ndarray:
    """uint8 (4, 84, 84): the stack at a reset, four times the first frame."""
    return np.repeat(frame[None], STACK, axis=0)


def next_stack(stack: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """uint8 (4, 84, 84): the stack without its oldest frame, and with a new one at the end."""
    return np.concatenate([stack[1:], frame[None]])


def _leaves(space: Space, path: Path = ()) -> Iterator[tuple[Path, Space]]:
    if isinstance(space, spaces.Dict):
        inner = list(space.spaces.items())
    elif isinstance(space, spaces.Tuple):
        inner = list(enumerate(space.spaces))
    else:
        yield path, space
        return
    for key, leaf in inner:
        yield from _leaves(leaf, (*path, key))


def _at(observation: Any, path: Path) -> Any:
    for key in path:
        observation = observation[key]
    return observation


def _kind(space: Space) -> Literal["continuous", "discrete", "image", "text"]:
    """What a leaf holds; UserError if that has no place in the dataset."""
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        return "discrete"
    if isinstance(space, spaces.Box):
        if space.dtype is not None and space.dtype.kind == "f":
            return "continuous"
        if space.dtype == np.uint8 and _is_picture(space.shape):
            return "image"
        return "discrete" if (space.low >= 0).all() and (space.high <= 255).all() else "continuous"
    # minigrid's missions are no subclass of Text, but like Text a space of str.
    if space.dtype is not None and space.dtype.kind == "U":
        return "text"
    raise _refused(space, "has no fixed size" if not space.is_np_flattenable else "is unknown")


def _is_picture(shape: tuple[int, ...]) -> bool:
    sides = shape
    if len(shape) == 3:
        first = shape[0] in (1, 3, STACK)
        sides = shape[:2] if _channels_last(shape) else shape[1:] if first else ()
    return len(sides) == 2 and min(sides) >= PICTURE_SIDE


def _channels_last(shape: tuple[int, ...]) -> bool:
    return shape[-1] in (1, 3, 4)


def _value_counts(space: Space) -> np.ndarray:
    """int64 (D,): how many values each integer of a discrete leaf has."""
    if isinstance(space, spaces.Discrete):
        return np.array([space.n], np.int64)
    if isinstance(space, spaces.MultiDiscrete):
        return np.ravel(space.nvec).astype(np.int64)
    if isinstance(space, spaces.Box):
        return np.ravel(space.high).astype(np.int64) + 1
    return np.full(math.prod(space.shape or ()), 2, np.int64)


def _starts(space: Space) -> np.ndarray:
    """int64 (D,) or (1,): the first value of each integer of a discrete leaf."""
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return np.ravel(space.start).astype(np.int64)
    return np.zeros(1, np.int64)


def _counted_from_zero(space: Space, value: Any) -> np.ndarray:
    """int64 (D,): the integers of a discrete leaf, less their first values."""
    return np.ravel(value).astype(np.int64) - _starts(space)


def _strides(counts: np.ndarray) -> np.ndarray:
    """int64 (D,): what one more of each digit adds to the number, the last digit being fastest."""
    return np.append(np.cumprod(counts[:0:-1])[::-1], 1).astype(np.int64)


def _check_width(space: Space, width: int) -> None:
    if not 0 < width <= MOST_NUMBERS:
        raise _refused(space, f"makes {width} numbers, not 1 to {MOST_NUMBERS},")


def _refused(space: Space, why: str) -> UserError:
    return UserError(
        f"the observation {_shown(space)} {why} and is not supported: a task observes one picture, "
        "or Box, Discrete, MultiDiscrete and MultiBinary, alone or in Dict and Tuple, with Text "
        "beside them (wrap the environment)"
    )


def _shown(space: Space) -> str:
    text = " ".join(str(space).split())
    return text if len(text) <= 120 else text[:119] + "…"
