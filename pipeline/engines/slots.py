"""One Gymnasium environment in a process of its own, as a task sees it.

No environment is made in the calling process, not even to learn its spaces: an OpenGL context
does not survive a fork (MuJoCo's EGL renderer then hangs), and what crashes takes no stage along.
"""

import multiprocessing
import os
import random
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces

from pipeline.engines.spaces import ActionLayout, ObservationLayout, first_stack, next_stack
from pipeline.errors import UserError, did_you_mean
from pipeline.program import end_with

CONTEXT = "fork"
"""How environment processes start. A fork costs milliseconds, where spawn and forkserver import
everything again for each slot, run ``__main__`` again and leave a server behind."""
MAKE_SECONDS = 300
"""How long an environment may take to be made before it counts as hanging."""
CLOSE_SECONDS = 5
"""How long environments may take to close before their processes are killed."""

MakeEnv = Callable[[], gymnasium.Env]


@dataclass(frozen=True)
class Outline:
    """What must be known of an environment before its processes start."""

    name: str
    module: str
    """The module that defines the environment's class."""
    observations: ObservationLayout
    actions: ActionLayout
    time_limit: int | None = None
    """Steps after which the registration cuts an episode off."""
    reward_threshold: float | None = None
    """The return from which on the registration calls the environment solved."""

    @property
    def slot_actions(self) -> spaces.Tuple:
        """Whether a slot is stepped at all (0 or 1), and the task's action."""
        return spaces.Tuple((spaces.Discrete(2), self.actions.action_space))


class Stub(gymnasium.Env):
    """Stands for an environment where Gymnasium only asks for the spaces of a slot."""

    def __init__(self, outline: Outline) -> None:
        self.observation_space = outline.observations.observation_space
        self.action_space = outline.slot_actions


class Slot(Stub):
    """One environment as the task sees it, in its process.

    Observations are rows of the dataset; texts and kept info travel in the info of each step and
    reset. A fault is told in the info also (``error``): Gymnasium would pickle the exception.
    """

    def __init__(
        self, make: MakeEnv, outline: Outline, slot: int, limit: int | None, keys: Sequence[str]
    ) -> None:
        super().__init__(outline)
        self.env = make()
        self.layout, self.actions = outline.observations, outline.actions
        self.slot, self.limit, self.keys = slot, limit, keys
        self.steps = 0
        self.kept: dict[str, bool | float] = {}
        box = self.layout.observation_space
        self.row = np.zeros(box.shape, box.dtype)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        """Start an episode; info holds what was kept of the step before."""
        try:
            observation, _ = self.env.reset(seed=seed)
            self.steps = 0
            return self._observe(observation, first=True)
        except Exception as error:
            return self.row, {"error": one_line(error)}

    def step(self, action: tuple[int, Any]) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Step if told to go; terminated and truncated are never both set."""
        go, flat = action
        if not go:
            return self.row, 0.0, False, False, {}
        try:
            observation, reward, terminated, truncated, info = self.env.step(
                self.actions.decode(flat)
            )
            self.steps += 1
            late = bool(truncated) or self.steps == self.limit
            self.kept = {key: _kept(key, info) for key in self.keys}
            row, told = self._observe(observation)
            reward = float(np.asarray(reward).item())
            return row, reward, bool(terminated), late and not terminated, told
        except Exception as error:
            return self.row, 0.0, False, False, {"error": one_line(error)}

    def picture(self, slot: int) -> Any:
        """What the environment renders, if it is of this slot; a line if it fails."""
        if slot != self.slot:
            return None
        try:
            return self.env.render()
        except Exception as error:
            return one_line(error)

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _observe(self, observation: Any, first: bool = False) -> tuple[np.ndarray, dict]:
        row, text = self.layout.encode(observation), self.layout.text(observation)
        if self.layout.kind == "image":
            row = first_stack(row) if first else next_stack(self.row, row)
        self.row = row
        info: dict[str, Any] = {"kept": self.kept} if self.keys else {}
        return row, info if text is None else info | {"text": text}


@dataclass(frozen=True)
class SlotMaker:
    """Makes a slot in its process, and a stub in the calling one."""

    make: MakeEnv
    outline: Outline
    slot: int
    seed: int
    limit: int | None
    keys: tuple[str, ...]
    caller: int = -1

    def __post_init__(self) -> None:
        object.__setattr__(self, "caller", os.getpid())

    def __call__(self) -> gymnasium.Env:
        """The slot, or its stub in the process that asked for it."""
        if os.getpid() == self.caller:
            return Stub(self.outline)
        _settle()
        random.seed(self.seed)
        np.random.seed(self.seed)  # noqa: NPY002 for environments that draw from it
        return Slot(self.make, self.outline, self.slot, self.limit, self.keys)


def _settle() -> None:
    """Make a forked process independent of what its parent had set up, but for its end."""
    end_with(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent closes us; one line, not one a slot
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Ray's handler would wait for Ray
    cv2.setNumThreads(0)  # its threads are the parent's, and not here


def ask_outline(make: MakeEnv) -> Outline:
    """The outline of an environment that is made, and closed, in a process of its own."""
    context = multiprocessing.get_context(CONTEXT)
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_tell_outline, args=(make, writer), daemon=True)
    process.start()
    writer.close()
    name = getattr(make, "__name__", str(make))
    try:
        if not reader.poll(MAKE_SECONDS):
            raise UserError(f"{name}: an environment is not made within {MAKE_SECONDS} s")
        answer = reader.recv()
    except EOFError:
        process.join()
        raise UserError(
            f"{name}: the process that made an environment died (exit code {process.exitcode})"
        ) from None
    finally:
        process.join(CLOSE_SECONDS)
        process.kill()
        process.join()
        reader.close()
    if isinstance(answer, str):
        raise UserError(answer)
    return answer


def _tell_outline(make: MakeEnv, writer: Any) -> None:
    _settle()
    name = getattr(make, "__name__", str(make))
    env = None
    try:
        env = make()
        own = type(env.unwrapped)
        name = env.spec.id if env.spec else own.__name__
        layout = ObservationLayout.from_space(env.observation_space)
        actions = ActionLayout.from_space(env.action_space)
        limit = env.spec.max_episode_steps if env.spec else None
        threshold = env.spec.reward_threshold if env.spec else None
        answer = Outline(name, own.__module__, layout, actions, limit, threshold)
    except UserError as error:
        answer = str(error)
    except Exception as error:
        answer = f"{name}: an environment cannot be made: {one_line(error)}"
    writer.send(answer)
    if env is not None:
        env.close()


def _kept(key: str, info: Mapping[str, Any]) -> bool | float:
    if key not in info:
        raise UserError(
            f"the info of a step has no '{key}'{did_you_mean(key, map(str, info))}, only "
            f"{sorted(map(str, info))}: correct 'info'"
        )
    value = np.asarray(info[key]).item()
    if key == "success":
        return float(value) > 0.5
    return value if isinstance(value, bool) else float(value)


def one_line(error: Exception) -> str:
    """What was raised and where, in one line."""
    if isinstance(error, UserError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    frame = [frame for frame in frames if not frame.filename.startswith("<")][-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return " ".join(f"{type(error).__name__}: {error} ({place})".split())
