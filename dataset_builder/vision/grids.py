"""Grid worlds in the manner of BabyAI, drawn at random and rendered by minigrid itself.

A `Scene` is the whole truth about one picture: every caption and question is computed from it.
A full view shows all rooms from above; a partial view shows the 7x7 cells that a BabyAI agent
observes (Chevalier-Boisvert et al. 2019, section 3.1), with the agent at the bottom centre, facing
up, and the object that it carries in its own cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from minigrid.core.grid import Grid
from minigrid.core.world_object import Ball, Box, Door, Key, Wall, WorldObj

COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")
DOOR_COLOURS = COLOURS[:-1]  # an open grey door cannot be told from the grey wall
OBJECTS: dict[str, Callable[[str], WorldObj]] = {"key": Key, "ball": Ball, "box": Box}
DOOR_STATES = ("open", "closed", "locked")
MAX_OBJECTS = 8  # in one picture, doors aside
VIEW_CELLS = 7  # minigrid's agent_view_size
STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # minigrid's directions: right, down, left, up
FACINGS = ("right", "down", "left", "up")
UP = FACINGS.index("up")
# (rows, columns) of rooms; single rooms are drawn as often as all the others together.
LAYOUTS = ((1, 1), (1, 1), (1, 1), (1, 2), (2, 1), (2, 2))


Option = TypeVar("Option")


@dataclass(frozen=True)
class Thing:
    """A key, ball, box or door at column `x`, row `y` of the picture; only doors have a state."""

    kind: str
    colour: str
    x: int
    y: int
    state: str = ""

    @property
    def name(self) -> str:
        """ "red key": what tells things apart without looking at where they are."""
        return f"{self.colour} {self.kind}"


@dataclass(frozen=True)
class Scene:
    """One picture's content, in the picture's own coordinates (x to the right, y downwards).

    `things` holds what can be seen, in reading order; `carrying` what the agent of a partial view
    carries (a full view does not show it, hence always None there); `rooms` is 0 in a partial view.
    """

    view: Literal["full", "partial"]
    things: tuple[Thing, ...]
    agent: tuple[int, int]
    facing: int
    carrying: Thing | None
    rooms: int
    grid: Grid
    visible: np.ndarray  # (width, height) bool

    @property
    def width(self) -> int:
        """Cells, walls included."""
        return self.grid.width

    @property
    def height(self) -> int:
        """Cells, walls included."""
        return self.grid.height

    def in_sight(self) -> tuple[Thing, ...]:
        """All that the picture shows: what lies or stands about, and what the agent carries."""
        return (*self.things, self.carrying) if self.carrying else self.things

    def ahead(self) -> str | Thing:
        """What the cell in front of the agent holds: a thing, "wall" or "" if it is empty."""
        x, y = (self.agent[axis] + STEPS[self.facing][axis] for axis in (0, 1))
        content = self.grid.get(x, y)
        if content is None or isinstance(content, Wall):
            return "wall" if content else ""
        return next(thing for thing in self.things if (thing.x, thing.y) == (x, y))


def pick(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    """One of the options, each as likely as the others."""
    return options[int(rng.integers(len(options)))]


def draw_scene(rng: np.random.Generator, partial_share: float) -> Scene:
    """Draw rooms, doors, objects and an agent; show them in full or, at times, as the agent sees
    them."""
    rows, columns = pick(rng, LAYOUTS)
    size = int(rng.integers(4, 8) if rows * columns == 1 else rng.integers(3, 6))
    grid = _draw_rooms(rng, rows, columns, size)
    cells = [(x, y) for y in range(grid.height) for x in range(grid.width) if not grid.get(x, y)]
    cells = [cells[i] for i in rng.permutation(len(cells))]
    agent = cells.pop()
    for x, y in cells[: rng.integers(1, MAX_OBJECTS + 1)]:
        grid.set(x, y, _draw_object(rng))
    if rng.random() < partial_share:
        carried = _draw_object(rng) if rng.random() < 0.5 else None
        # The way to look that shows most: bare walls teach little.
        views = [_partial_view(grid, agent, way, carried) for way in range(4)]
        return max(views, key=lambda view: len(view.things))
    visible = np.ones((grid.width, grid.height), dtype=bool)
    facing = int(rng.integers(4))
    return Scene("full", _things(grid), agent, facing, None, rows * columns, grid, visible)


def render(scene: Scene, image_size: int) -> np.ndarray:
    """The picture, uint8 of shape (image_size, image_size, 3), on black where cells do not fill it.

    Cells keep a whole number of pixels, so that pictures stay sharp and compress well.
    """
    cell = image_size // max(scene.width, scene.height)
    lit = scene.visible if scene.view == "partial" else None
    picture = scene.grid.render(cell, scene.agent, scene.facing, lit)
    canvas = np.zeros((image_size, image_size, 3), dtype=np.uint8)
    top, left = (image_size - picture.shape[0]) // 2, (image_size - picture.shape[1]) // 2
    canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return canvas


def _draw_rooms(rng: np.random.Generator, rows: int, columns: int, size: int) -> Grid:
    """Rooms of `size` x `size` cells; adjacent ones are mostly joined by a door, and an outer wall
    sometimes has one."""
    pitch = size + 1
    grid = Grid(columns * pitch + 1, rows * pitch + 1)
    for column in range(columns + 1):
        grid.vert_wall(column * pitch, 0)
    for row in range(rows + 1):
        grid.horz_wall(0, row * pitch)
    for row in range(rows):
        for column in range(columns + 1):
            share = 0.8 if 0 < column < columns else 0.12
            if rng.random() < share:
                grid.set(column * pitch, row * pitch + int(rng.integers(1, pitch)), _draw_door(rng))
    for column in range(columns):
        for row in range(rows + 1):
            share = 0.8 if 0 < row < rows else 0.12
            if rng.random() < share:
                grid.set(column * pitch + int(rng.integers(1, pitch)), row * pitch, _draw_door(rng))
    return grid


def _draw_door(rng: np.random.Generator) -> Door:
    state = pick(rng, DOOR_STATES)
    return Door(pick(rng, DOOR_COLOURS), state == "open", state == "locked")


def _draw_object(rng: np.random.Generator) -> WorldObj:
    return OBJECTS[pick(rng, tuple(OBJECTS))](pick(rng, COLOURS))


def _partial_view(
    grid: Grid, agent: tuple[int, int], facing: int, carried: WorldObj | None
) -> Scene:
    """What minigrid's `gen_obs_grid` shows: seven cells ahead, three to each side, and nothing
    behind walls and closed doors, turned so that ahead is up."""
    half, last = VIEW_CELLS // 2, VIEW_CELLS - 1
    x, y = agent
    corner = ((x, y - half), (x - half, y), (x - last, y - half), (x - half, y - last))[facing]
    view = grid.slice(*corner, VIEW_CELLS, VIEW_CELLS)
    for _ in range(facing + 1):
        view = view.rotate_left()
    place = (half, last)
    visible = view.process_vis(place)
    things = _things(view)
    view.set(*place, carried)
    held = Thing(carried.type, carried.color, *place) if carried else None
    return Scene("partial", things, place, UP, held, 0, view, visible)


def _things(grid: Grid) -> tuple[Thing, ...]:
    return tuple(
        Thing(content.type, content.color, x, y, _state(content))
        for y in range(grid.height)
        for x in range(grid.width)
        if (content := grid.get(x, y)) is not None and not isinstance(content, Wall)
    )


def _state(content: WorldObj) -> str:
    if not isinstance(content, Door):
        return ""
    return "open" if content.is_open else "locked" if content.is_locked else "closed"
