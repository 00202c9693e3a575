"""Any Gymnasium environment behind the ``VectorEnv`` contract, one process a slot."""

import contextlib
import importlib
import os
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from pipeline.engines import slots as processes
from pipeline.engines.slots import MakeEnv, SlotMaker, ask_outline, one_line
from pipeline.errors import UserError, did_you_mean
from pipeline.types import Observations, Step, check_seeds


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
            SlotMaker(make, outline, slot, seed, limit, self._info)
            for slot, seed in enumerate(self.seeds)
        ]
        self._vector: Any = None
        try:
            self._vector = AsyncVectorEnv(
                makers,
                context=processes.CONTEXT,
                copy=False,
                autoreset_mode=AutoresetMode.SAME_STEP,
            )
        except (EOFError, OSError, RuntimeError) as error:
            traceback.clear_frames(error.__traceback__)  # lets it go, which ends its processes
            raise UserError(
                f"{self.name}: not every environment could be made like the first one "
                f"({one_line(error)})"
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
        deadline = time.monotonic() + processes.CLOSE_SECONDS
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


def _column(values: np.ndarray) -> np.ndarray:
    return values if values.dtype == bool else values.astype(np.float32)


def _death(processes: Sequence[Any]) -> str:
    for process in processes:
        process.join(0.1)  # a pipe may break a moment before its process has ended
    dead = [k for k, process in enumerate(processes) if not process.is_alive()]
    if not dead:
        return "lost contact with an environment's process"
    return f"the process of environment {dead[0]} died (exit code {processes[dead[0]].exitcode})"


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
                f"'{id}': the module '{module}' cannot be imported ({one_line(error)}): install "
                "its package, or correct the name"
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
        raise UserError(f"'{id}' cannot be made with {options}: {one_line(error)}") from error
