"""Any Gymnasium environment behind the ``VectorEnv`` contract, one process a slot.

No environment is made in the calling process, not even to learn its spaces: an OpenGL context
does not survive a fork (MuJoCo's EGL renderer then hangs), and what crashes takes no stage along.
"""

import contextlib
import importlib
import multiprocessing
import os
import random
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from pipeline.engines.spaces import ActionLayout, ObservationLayout, first_stack, next_stack
from pipeline.errors import UserError, did_you_mean
from pipeline.types import Observations, Step, check_seeds

CONTEXT = "fork"
"""How environment processes start. A fork costs milliseconds, where spawn and forkserver import
everything again for each slot, run ``__main__`` again and leave a server behind."""
MAKE_SECONDS = 300
"""How long an environment may take to be made before it counts as hanging."""
CLOSE_SECONDS = 5
"""How long environments may take to close before their processes are killed."""

MakeEnv = Callable[[], gymnasium.Env]


class GymnasiumEnv:
    """``len(seeds)`` Gymnasium environments, each in a process and with a seed of its own.

    The first reset of slot k gets ``seeds[k]`` and later ones none, so that an episode is known by
    the seed of its slot and its number. Python's and numpy's global generators are seeded in each
    process also, for environments that draw from these. An environment that raises or dies ends in
    a UserError that names it, with every process closed.
    """

    def __init__(
        self,
        make: MakeEnv,
        seeds: Sequence[int],
        *,
        limit: int | None = None,
        info: Sequence[str] = (),
    ) -> None:
        """``make`` makes one environment, in its process.

        ``limit`` truncates episodes after as many steps, beside the environment's own limit.
        ``info`` names the keys of every step's info that become columns: bool for booleans and for
        ``success`` (above 0.5), float32 otherwise.
        """
        self.seeds = check_seeds(seeds)
        self.num_envs = len(self.seeds)
        outline = ask_outline(make)
        with contextlib.suppress(Exception):  # once here, or each process would import it again
            importlib.import_module(outline.module)
        self.name = outline.name
        self.observation_layout = outline.observations
        self.action_layout = outline.actions
        self.observation_space = outline.observations.observation_space
        self.action_space = outline.actions.action_space
        self._info = tuple(info)
        self._fresh = True
        makers = [
            _SlotMaker(make, outline, slot, seed, limit, self._info)
            for slot, seed in enumerate(self.seeds)
        ]
        self._vector: Any = None
        try:
            self._vector = AsyncVectorEnv(
                makers, context=CONTEXT, copy=False, autoreset_mode=AutoresetMode.SAME_STEP
            )
        except (EOFError, OSError, RuntimeError) as error:
            traceback.clear_frames(error.__traceback__)  # lets it go, which ends its processes
            raise UserError(
                f"{self.name}: not every environment could be made like the first one "
                f"({_line(error)})"
            ) from None

    def reset(self) -> Observations:
        """Start an episode everywhere."""
        seeds = self.seeds if self._fresh else None
        self._fresh = False
        observations, infos = self._ask(lambda vector: vector.reset(seed=seeds))
        return self._columns(observations.copy(), infos.get("text"))

    def step(self, actions: np.ndarray, ids: np.ndarray | None = None) -> Step:
        """Step the environments ``ids`` (int ``(n,)``, all when ``None``) and no others."""
        slots = np.arange(self.num_envs) if ids is None else np.asarray(ids)
        actions = self.action_layout.applied(actions)
        go = np.zeros(self.num_envs, np.int64)
        go[slots] = 1
        sent = np.zeros((self.num_envs, *actions.shape[1:]), actions.dtype)
        sent[slots] = actions
        observations, rewards, terminated, truncated, infos = self._ask(
            lambda vector: vector.step((go, sent))
        )
        ended = slots[terminated[slots] | truncated[slots]]
        finals = [infos["final_obs"][slot] for slot in ended]
        return Step(
            self._columns(observations[slots], infos.get("text"), slots),
            actions,
            rewards[slots].astype(np.float32),
            terminated[slots],
            truncated[slots],
            self._columns(
                np.stack(finals) if finals else observations[:0].copy(),
                infos["final_info"].get("text") if finals else None,
                ended,
            ),
            {key: _column(infos["kept"][key][slots]) for key in self._info},
        )

    def render(self, env: int = 0) -> np.ndarray:
        """RGB picture of one environment, uint8 (H, W, 3); UserError if it makes no pictures."""
        picture = self._ask(lambda vector: vector.call("picture", env))[env]
        if isinstance(picture, np.ndarray):
            return picture.astype(np.uint8, copy=False)
        raise UserError(
            f"{self.name} makes no picture ({picture}): make it with render_mode='rgb_array', and "
            "where OpenGL is missing install EGL, or set MUJOCO_GL to glfw or osmesa"
        )

    def close(self) -> None:
        """Close the environments and end their processes, killing those that do not end."""
        vector, self._vector = self._vector, None
        if vector is None:
            return
        for pipe in vector.parent_pipes:
            with contextlib.suppress(OSError):  # the process has died
                pipe.send(("close", None))
        deadline = time.monotonic() + CLOSE_SECONDS
        for process in vector.processes:
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.join()
        for pipe in vector.parent_pipes:
            pipe.close()
        vector.closed = True

    def _columns(
        self, rows: np.ndarray, texts: np.ndarray | None, slots: np.ndarray | None = None
    ) -> Observations:
        """Rows and, where the task has text, the texts of the slots (all when ``None``)."""
        columns = {self.observation_layout.column: rows}
        if self.observation_layout.texts:
            texts = np.empty(0, object) if texts is None else texts
            columns["text_observations"] = texts[slice(None) if slots is None else slots]
        return columns

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        """The processes' answer; UserError, with all closed, if one reports a fault or has died."""
        if self._vector is None:
            raise ValueError(f"{self.name} is closed")
        try:
            answer = question(self._vector)
        except (EOFError, OSError):
            fault = _death(self._vector.processes)
        else:
            infos = answer[-1] if isinstance(answer[-1], dict) else {}
            if "error" not in infos:
                return answer
            slot = int(np.flatnonzero(infos["_error"])[0])
            fault = f"environment {slot} failed: {infos['error'][slot]}"
        self.close()
        raise UserError(f"{self.name}: {fault}")


def make_registered(
    id: str,
    kwargs: Mapping[str, Any],
    pixels: bool = False,
    render_mode: str | None = None,
    max_episode_steps: int | None = None,
) -> gymnasium.Env:
    """The environment of a Gymnasium id; ``module:id`` imports the module that registers it.

    ``kwargs`` go to the environment. ``pixels`` makes its RGB picture the observation. The time
    limit of the registration is in force unless ``max_episode_steps`` replaces it. UserError, in
    one line, if there is no such environment, or it lacks a package, or cannot be made so.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    module, _, name = id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever a foreign module does when imported
            raise UserError(
                f"'{id}': the module '{module}' cannot be imported ({_line(error)}): install its "
                "package, or correct the name"
            ) from error
    if pixels or render_mode == "rgb_array":
        os.environ.setdefault("MUJOCO_GL", "egl")  # these two work without a display
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        render_mode = "rgb_array"
    options = dict(kwargs) if render_mode is None else {**kwargs, "render_mode": render_mode}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is a newer version, above all
            env = gymnasium.make(name, max_episode_steps, disable_env_checker=True, **options)
            return gymnasium.wrappers.AddRenderObservation(env) if pixels else env
    except gymnasium.error.UnregisteredEnv as error:
        raise UserError(
            f"Gymnasium has no environment '{name}'{did_you_mean(name, gymnasium.registry)}: "
            "correct the id, or write 'module:id' to import the module that registers it"
        ) from error
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise UserError(f"'{id}' needs a package that is not installed: {error}") from error
    except Exception as error:  # whatever a foreign environment does when made
        raise UserError(f"'{id}' cannot be made with {options}: {_line(error)}") from error


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


class _Stub(gymnasium.Env):
    """Stands for an environment where Gymnasium only asks for the spaces of a slot."""

    def __init__(self, outline: Outline) -> None:
        self.observation_space = outline.observations.observation_space
        self.action_space = outline.slot_actions


class _Slot(_Stub):
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
            return self.row, {"error": _line(error)}

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
            return self.row, 0.0, False, False, {"error": _line(error)}

    def picture(self, slot: int) -> Any:
        """What the environment renders, if it is of this slot; a line if it fails."""
        if slot != self.slot:
            return None
        try:
            return self.env.render()
        except Exception as error:
            return _line(error)

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
class _SlotMaker:
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
        if os.getpid() == self.caller:
            return _Stub(self.outline)
        _settle()
        random.seed(self.seed)
        np.random.seed(self.seed)  # noqa: NPY002 for environments that draw from it
        return _Slot(self.make, self.outline, self.slot, self.limit, self.keys)


def _settle() -> None:
    """Make a forked process independent of what its parent had set up."""
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
        answer = f"{name}: an environment cannot be made: {_line(error)}"
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


def _column(values: np.ndarray) -> np.ndarray:
    return values if values.dtype == bool else values.astype(np.float32)


def _line(error: Exception) -> str:
    """What was raised and where, in one line."""
    if isinstance(error, UserError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    frame = [frame for frame in frames if not frame.filename.startswith("<")][-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return " ".join(f"{type(error).__name__}: {error} ({place})".split())


def _death(processes: Sequence[Any]) -> str:
    for process in processes:
        process.join(0.1)  # a pipe may break a moment before its process has ended
    dead = [k for k, process in enumerate(processes) if not process.is_alive()]
    if not dead:
        return "lost contact with an environment's process"
    return f"the process of environment {dead[0]} died (exit code {processes[dead[0]].exitcode})"
