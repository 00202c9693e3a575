"""BabyAI in minigrid, the package its bot plans in: the same levels, observed several times faster.

The observation is minigrid's, bit for bit. It is read from an encoded copy of the world instead
of being rebuilt object by object, since only the cell in front of the agent can change in a step.
"""

from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import gymnasium
import minigrid  # noqa: F401  registers the levels
import numpy as np
from gymnasium.envs.registration import load_env_creator
from minigrid.core.constants import DIR_TO_VEC, OBJECT_TO_IDX, STATE_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.world_object import Wall
from minigrid.envs.babyai.core.roomgrid_level import RejectSampling

from pipeline.errors import UserError
from pipeline.seeds import env_seeds
from pipeline.types import Observations, Step, check_seeds

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv as Level
else:
    Level = object

VIEW = 7
"""Side of the agent's square view; it stands in the middle of the last row."""
MARGIN = VIEW - 1
"""Cells of wall around the encoded world: how far a view can reach beyond the map."""
AGENT_CELL = VIEW * (VIEW // 2) + VIEW - 1
"""Index of the agent's own cell in a flattened view."""
EMPTY = (OBJECT_TO_IDX["empty"], 0, 0)
WALL = Wall().encode()
RIGHT_VECS = [DIR_TO_VEC[(direction + 1) % 4] for direction in range(4)]

OPAQUE = np.zeros((max(OBJECT_TO_IDX.values()) + 1, len(STATE_TO_IDX)), bool)
"""bool (object type, state): walls and closed doors hide what is behind them."""
OPAQUE[OBJECT_TO_IDX["wall"]] = True
OPAQUE[OBJECT_TO_IDX["door"], STATE_TO_IDX["closed"] :] = True


def episode_seed(slot_seed: int, episode: int) -> int:
    """The seed of a slot's ``episode``-th reset: ``level.reset(seed=...)`` replays it alone."""
    return env_seeds(slot_seed, episode, count=1)[0]


@lru_cache
def view_offsets(stride: int) -> np.ndarray:
    """int64 (4, 49): by direction, where the view's cells lie relative to the agent's.

    Offsets are into a flattened map in which x + 1 lies ``stride`` cells on and y + 1 one; view
    cell (a, b) is ``VIEW - 1 - b`` steps ahead and ``a - VIEW // 2`` to the right.
    """
    across, down = np.divmod(np.arange(VIEW * VIEW), VIEW)
    right, ahead = across - VIEW // 2, VIEW - 1 - down
    return np.stack(
        [
            (ahead * forward[0] + right * side[0]) * stride + ahead * forward[1] + right * side[1]
            for forward, side in zip(DIR_TO_VEC, RIGHT_VECS, strict=True)
        ]
    )


def encode_world(grid: Grid) -> np.ndarray:
    """uint8 (cells, 3): minigrid's symbols of every cell, x-major, within a margin of walls."""
    world = np.empty((grid.width + 2 * MARGIN, grid.height + 2 * MARGIN, 3), np.uint8)
    world[:] = WALL
    symbols = (
        EMPTY if cell is None else WALL if cell.type == "wall" else cell.encode()
        for cell in grid.grid
    )
    inside = np.frombuffer(bytes(chain.from_iterable(symbols)), np.uint8)
    inside = inside.reshape(grid.height, grid.width, 3)
    world[MARGIN:-MARGIN, MARGIN:-MARGIN] = inside.swapaxes(0, 1)
    return world.reshape(-1, 3)


@lru_cache(maxsize=65536)
def visible(opaque: bytes) -> np.ndarray:
    """uint8 (49, 1): which cells of a view are seen, from which are opaque (49 bytes of 0 or 1).

    Light starts at the agent and moves row by row away from it, first to the right, then to the
    left; every transparent cell it reaches lights its neighbour and the two cells ahead of them
    (minigrid ``Grid.process_vis``).
    """
    seen = np.zeros((VIEW, VIEW), np.uint8)
    seen[VIEW // 2, VIEW - 1] = 1
    rightward = [(x, x + 1) for x in range(VIEW - 1)]
    leftward = [(x, x - 1) for x in range(VIEW - 1, 0, -1)]
    for y in range(VIEW - 1, -1, -1):
        for x, beside in rightward + leftward:
            if seen[x, y] and not opaque[x * VIEW + y]:
                seen[beside, y] = 1
                if y > 0:
                    seen[x, y - 1] = seen[beside, y - 1] = 1
    return seen.reshape(-1, 1)


class EncodedView(Level):
    """Mixin for minigrid levels whose world changes only in front of the agent."""

    world: np.ndarray
    """uint8 (cells, 3): see ``encode_world``."""

    def _gen_grid(self, width: int, height: int) -> None:
        with redirect_stdout(None):  # the generator prints its rejected attempts
            super()._gen_grid(width, height)
        self.world = encode_world(self.grid)

    def check_objs_reachable(self, raise_exc: bool = True) -> bool:
        """Whether the agent can touch every thing without moving any, as minigrid's, but faster.

        Raises minigrid's ``RejectSampling`` if not, unless ``raise_exc`` is false.
        """
        grid, width = self.grid.grid, self.width
        x, y = self.agent_pos
        met = {int(y * width + x)}
        edge = list(met)
        while edge:
            index = edge.pop()
            thing = grid[index]
            if thing is None or thing.type == "door":
                around = {index - 1, index + 1, index - width, index + width} - met
                met |= around
                edge += around
        things = (k for k, thing in enumerate(grid) if thing is not None and thing.type != "wall")
        if met.issuperset(things):
            return True
        if raise_exc:
            raise RejectSampling("unreachable thing")
        return False

    @property
    def right_vec(self) -> np.ndarray:
        """int (2,): the direction to the right of the agent."""
        return RIGHT_VECS[self.agent_dir]

    def cell_index(self, x: int, y: int) -> int:
        """Index of a cell in the flattened world within its margin."""
        return (x + MARGIN) * (self.height + 2 * MARGIN) + y + MARGIN

    def view_cells(self) -> np.ndarray:
        """int64 (49,): indices of the cells in view, in the order of the observed image."""
        return view_offsets(self.height + 2 * MARGIN)[self.agent_dir] + self.cell_index(
            *self.agent_pos
        )

    def gen_obs(self) -> dict[str, Any]:
        """minigrid's observation: uint8 image (7, 7, 3), direction and mission."""
        (x, y), ahead = self.agent_pos, DIR_TO_VEC[self.agent_dir]
        x, y = int(x + ahead[0]), int(y + ahead[1])
        cell = self.grid.grid[y * self.width + x]
        self.world[self.cell_index(x, y)] = EMPTY if cell is None else cell.encode()
        symbols = self.world[self.view_cells()]
        symbols *= visible(OPAQUE[symbols[:, 0], symbols[:, 2]].tobytes())
        symbols[AGENT_CELL] = self.carrying.encode() if self.carrying else EMPTY
        image = symbols.reshape(VIEW, VIEW, 3)
        return {"image": image, "direction": self.agent_dir, "mission": self.mission}


@lru_cache
def level_factory(gymnasium_id: str) -> Callable[[], Any]:
    """Makes levels of one id without Gymnasium's wrappers; UserError if there is no such id."""
    try:
        spec = gymnasium.spec(gymnasium_id)
    except gymnasium.error.Error as error:
        raise UserError(f"minigrid has no environment '{gymnasium_id}': {error}") from error
    level: Any = load_env_creator(str(spec.entry_point))
    encoded: Any = type(level.__name__, (EncodedView, level), {})
    return lambda: encoded(**spec.kwargs)


class MinigridEnv:
    """``len(seeds)`` minigrid levels of one id, stepped one after the other."""

    def __init__(self, gymnasium_id: str, seeds: Sequence[int], limit: int | None = None) -> None:
        """``limit`` replaces the levels' own time limits."""
        self.seeds = check_seeds(seeds)
        self.num_envs = len(self.seeds)
        make_level = level_factory(gymnasium_id)
        self.envs: list[Any] = [make_level() for _ in self.seeds]
        self._limit = limit
        self.observation_space = gymnasium.spaces.Box(0, 255, (1 + VIEW * VIEW * 3,), np.uint8)
        self.action_space = self.envs[0].action_space
        self._episodes = [0] * self.num_envs

    def reset(self, episode: int = 0) -> Observations:
        """Start every slot's ``episode``-th episode, by default the first."""
        self._episodes = [episode] * self.num_envs
        return columns([self._start(slot) for slot in range(self.num_envs)])

    def step(self, actions: np.ndarray, ids: np.ndarray | None = None) -> Step:
        """Step the environments ``ids`` (all when ``None``); actions are ints in [0, 7)."""
        slots = range(self.num_envs) if ids is None else ids
        actions = np.asarray(actions, np.int64)
        rewards = np.zeros(len(actions), np.float32)
        terminated, truncated = np.zeros((2, len(actions)), bool)
        observations, finals = [], []
        for row, (slot, action) in enumerate(zip(slots, actions.tolist(), strict=True)):
            seen, rewards[row], done, late, _ = self.envs[slot].step(action)
            terminated[row], truncated[row] = done, late and not done
            if done or late:
                finals.append(seen)
                self._episodes[slot] += 1
                seen = self._start(slot)
            observations.append(seen)
        return Step(columns(observations), actions, rewards, terminated, truncated, columns(finals))

    def render(self, env: int = 0) -> np.ndarray:
        """RGB picture of one level, uint8 (H, W, 3)."""
        return self.envs[env].get_frame()

    def close(self) -> None:
        """Free the levels."""
        for env in self.envs:
            env.close()

    def _start(self, slot: int) -> dict[str, Any]:
        seed = episode_seed(self.seeds[slot], self._episodes[slot])
        observation = self.envs[slot].reset(seed=seed)[0]
        if self._limit is not None:
            self.envs[slot].max_steps = self._limit
        return observation


def columns(observations: list[dict[str, Any]]) -> Observations:
    """minigrid's observations as ``pipeline.domains.babyai``'s columns."""
    symbols = np.empty((len(observations), 1 + VIEW * VIEW * 3), np.uint8)
    missions = np.empty(len(observations), object)
    for row, seen in enumerate(observations):
        symbols[row, 0] = seen["direction"]
        symbols[row, 1:] = seen["image"].reshape(-1)
        missions[row] = seen["mission"]
    return {"discrete_observations": symbols, "text_observations": missions}
