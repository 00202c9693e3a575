"""Searches over BabyAI worlds: the bot's paths, and whether a level can be solved at all.

A set of cells is an int with one bit a cell, so that a search takes a whole ring of cells in a
few operations. Of several shortest paths it takes the one that minigrid's bot finds.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from minigrid.core.constants import DIR_TO_VEC, OBJECT_TO_IDX, STATE_TO_IDX
from minigrid.core.world_object import Door, Key, WorldObj
from minigrid.envs.babyai.core.verifier import ObjDesc, OpenInstr, SeqInstr

from pipeline.engines.minigrid import MARGIN, view_offsets

Position = tuple[int, int]
Cells = int
"""A set of cells: bit ``x * stride + y`` is the cell (x, y)."""

PREFERENCE = ((0, 1, 3, 2), (1, 0, 2, 3), (2, 3, 1, 0), (3, 2, 0, 1))
"""By heading: the directions in the order in which minigrid's search enters neighbours.

Straight ahead comes first; the others come from swapping the heading's components: (dx, dy),
(dy, dx), (-dy, -dx), (-dx, -dy).
"""
AROUND = ((-1, -1), (0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0))
"""(dx, dy) of the eight neighbours, in a circle."""


class Rings:
    """A breadth-first search, carried on only as far as it is asked about."""

    def __init__(self, start: Cells, passable: Cells, stride: int) -> None:
        """The search meets cells that are not ``passable``, but passes only through ``start``
        and those that are."""
        self.rings = [start]
        """The cells passed at each distance."""
        self.met = start
        self._passable, self._stride = passable, stride

    def distance(self, cells: Cells) -> int | None:
        """How far the nearest of some cells is, ``None`` if the search passes none of them."""
        for distance, ring in enumerate(self.rings):
            if ring & cells:
                return distance
        ring, met, stride = self.rings[-1], self.met, self._stride
        while ring:
            around = (ring << 1 | ring >> 1 | ring << stride | ring >> stride) & ~met
            met |= around
            ring = around & self._passable
            self.rings.append(ring)
            if ring & cells:
                break
        self.met = met
        return len(self.rings) - 1 if ring & cells else None

    def everything(self) -> Cells:
        """All cells that are ever met."""
        self.distance(0)
        return self.met


Legs = list[tuple[Rings, int]]
"""The parts of a path: for each the search from where it ends, and its length."""


class Map:
    """A level as the bot knows it: what stands where, what has been seen, which ways there are."""

    def __init__(self, level: Any) -> None:
        self._level = level
        self.stride = level.height + MARGIN
        self._offsets = [int(x * self.stride + y) for x, y in DIR_TO_VEC]
        world = level.world.reshape(-1, level.height + 2 * MARGIN, 3)
        types, _, states = world[MARGIN:-MARGIN, MARGIN:].T
        door = types == OBJECT_TO_IDX["door"]
        self.walls = as_cells(types == OBJECT_TO_IDX["wall"])
        self.empty = as_cells(types == OBJECT_TO_IDX["empty"])
        self.doors = as_cells(door)
        self.ajar = as_cells(door & (states == STATE_TO_IDX["open"]))
        self.seen = 0
        self._inside = inside(level.width, level.height, self.stride)
        self._ways: list[Cells] = []
        self._searches: dict[tuple[Cells, bool], Rings] = {}

    def look(self, image: np.ndarray) -> None:
        """Take in the observed image, 147 symbols, and what stands ahead of the agent."""
        x, y = self._level.agent_pos
        self.position, self.heading = (int(x), int(y)), self._level.agent_dir
        self.agent = self.cell(self.position)
        self.ahead = self.beside(self.agent, self.heading)
        self._enter(self.ahead, self.thing(self.ahead))
        lit = (image.reshape(-1, 3)[:, 0] != OBJECT_TO_IDX["unseen"]).tobytes()
        corner = (self.position[0] - MARGIN) * self.stride + self.position[1] - MARGIN
        seen = seen_from(lit, self.heading, self.stride)
        self.seen |= (seen << corner if corner > 0 else seen >> -corner) & self._inside
        free = self.seen & (self.empty | self.ajar)
        movable = self.seen & ~(self.walls | self.doors) | free
        if self._ways != [free, movable]:
            self._ways = [free, movable]
            self._searches.clear()

    def state(self) -> tuple[int, ...]:
        """What tells one situation from another: where the agent is, and all that it knows."""
        carrying = id(self._level.carrying)
        return self.agent, self.heading, self.empty, self.ajar, self.seen, carrying

    def _enter(self, cell: Cells, thing: WorldObj | None) -> None:
        """Note what stands in a cell; walls and doors stay where they are."""
        self.empty &= ~cell
        self.ajar &= ~cell
        if thing is None:
            self.empty |= cell
        elif isinstance(thing, Door) and thing.is_open:
            self.ajar |= cell

    def cell(self, at: Any) -> Cells:
        """The set of one cell; the empty set outside the map."""
        x, y = at
        if 0 <= x < self._level.width and 0 <= y < self._level.height:
            return 1 << int(x * self.stride + y)
        return 0

    def beside(self, cell: Cells, direction: int) -> Cells:
        """The neighbour of one cell."""
        offset = self._offsets[direction]
        return cell << offset if offset > 0 else cell >> -offset

    def place(self, cell: Cells) -> Position:
        """(x, y) of one cell."""
        return divmod(cell.bit_length() - 1, self.stride)

    def thing(self, cell: Cells) -> WorldObj | None:
        """What stands in one cell."""
        x, y = self.place(cell)
        return self._level.grid.grid[y * self._level.width + x]

    @property
    def unseen(self) -> Cells:
        """What has not been seen yet."""
        return self._inside & ~self.seen

    def things(self, cells: Cells) -> list[tuple[Cells, Any]]:
        """What stands in each of some cells."""
        found = []
        while cells:
            cell = cells & -cells
            found.append((cell, self.thing(cell)))
            cells ^= cell
        return found

    def _search(self, start: Cells, through: bool) -> Rings:
        """The search from a set of cells, shared while the map stays the same."""
        search = self._searches.get((start, through))
        if search is None:
            search = Rings(start, self._ways[through], self.stride)
            self._searches[start, through] = search
        return search

    def legs(self, goals: Cells, through: bool = False) -> Legs:
        """The shortest path from the agent to the nearest of ``goals``; no legs if there is none.

        Where there is none and ``through`` is set: the path that leaves what the agent can reach
        or touch at the nearest of the places from which the rest, through things that can be
        moved away, is shortest. It has two legs.
        """
        direct = self._search(goals, False)
        length = direct.distance(self.agent)
        if length is not None:
            return [(direct, length)]
        if not through:
            return []
        exits = self._search(self.agent, False).everything() & self._ways[True]
        beyond = self._search(goals, True)
        rest = beyond.distance(exits)
        if rest is None:
            return []
        start = self._search(beyond.rings[rest] & exits, False)
        length = start.distance(self.agent)
        assert length is not None
        return [(start, length), (beyond, rest)]

    def follow(self, legs: Legs) -> Iterator[tuple[int, Cells]]:
        """The directions of a path, and the cells that they lead to."""
        cell, heading = self.agent, self.heading
        for search, length in legs:
            for closer in range(length - 1, -1, -1):
                ring = search.rings[closer]
                heading = next(d for d in PREFERENCE[heading] if self.beside(cell, d) & ring)
                cell = self.beside(cell, heading)
                yield heading, cell
            heading = 0  # as minigrid's second search, which starts facing right

    def nearest(self, goals: Cells, through: bool = False) -> Cells:
        """The nearest of ``goals``, the empty set if no path leads anywhere."""
        steps = list(self.follow(self.legs(goals, through)))
        return steps[-1][1] if steps else 0

    def farthest(self, goals: Cells) -> Cells:
        """The farthest of ``goals`` that the agent can step on, the empty set if it cannot."""
        search = self._search(self.agent, False)
        search.everything()
        found = next((ring & goals for ring in reversed(search.rings) if ring & goals), 0)
        return found & -found

    def spots(self, besides: Cells) -> tuple[Cells, Cells]:
        """The cells where a thing can be dropped without parting what is around it, and all.

        ``besides`` will be taken. A thing parts its surroundings if the eight cells around it
        change more than twice between open and not, or if it shuts in one of the things there.
        """
        anywhere = self.seen & self.empty & ~self.agent & ~besides
        clear, walls = self._ways[False] & ~besides, self.seen & self.walls
        opens, bare = [], []
        for x, y in AROUND:
            offset = x * self.stride + y
            for cells, shifted in ((clear, opens), (walls, bare)):
                shifted.append(cells >> offset if offset > 0 else cells << -offset)
        once = twice = parted = 0
        for k in range(8):
            before, here, after = opens[k - 1], opens[k], opens[(k + 1) % 8]
            change = before ^ here
            parted |= twice & change | ~(before | here | after | bare[k])
            twice |= once & change
            once |= change
        return anywhere & ~parted, anywhere


def as_cells(mask: np.ndarray) -> Cells:
    """A bool array (stride, width) as a set."""
    return int.from_bytes(np.packbits(mask.T, bitorder="little").tobytes(), "little")


@lru_cache
def inside(width: int, height: int, stride: int) -> Cells:
    """All cells of a map."""
    return sum(((1 << height) - 1) << x * stride for x in range(width))


@lru_cache(maxsize=65536)
def seen_from(lit: bytes, direction: int, stride: int) -> Cells:
    """The cells of a view that are lit (49 bytes of 0 or 1), the agent being at (6, 6)."""
    origin = MARGIN * stride + MARGIN
    offsets = view_offsets(stride)[direction].tolist()
    return sum(1 << origin + offset for offset, on in zip(offsets, lit, strict=True) if on)


def unsolvable(level: Any) -> str:
    """Why nobody can carry out a level's instructions, or ``""``.

    Everything but walls and locked doors can be opened, moved or stepped over, and a locked door
    opens once a key of its colour has been reached. A level is unsolvable if one of the things
    that its instructions ask for lies beyond that; the generators of Unlock and GoToImpUnlock
    sometimes put the key behind its own door.
    """
    if not (level.world[:, 2] == STATE_TO_IDX["locked"]).any():
        return ""
    level_map = Map(level)
    things = [
        (level_map.cell(divmod(index, level.width)[::-1]), thing)
        for index, thing in enumerate(level.grid.grid)
        if isinstance(thing, Door | Key)
    ]
    locked = [(cell, door) for cell, door in things if isinstance(door, Door) and door.is_locked]
    keys = {level.carrying.color} if isinstance(level.carrying, Key) else set()
    while True:
        shut = sum(cell for cell, door in locked if door.color not in keys)
        passable = ~(level_map.walls | shut)
        met = Rings(level_map.cell(level.agent_pos), passable, level_map.stride).everything()
        found = {key.color for cell, key in things if isinstance(key, Key) and cell & met}
        if found <= keys:
            break
        keys |= found
    for wanted, to_open in targets(level.instrs):
        within = met & ~shut if to_open else met
        if not any(level_map.cell(at) & within for at in wanted.obj_poss):
            what = " ".join(word for word in (wanted.color, wanted.type) if word)
            return f"unsolvable level: no {what} in reach"
    return ""


def targets(instruction: Any) -> Iterator[tuple[ObjDesc, bool]]:
    """What the parts of an instruction refer to, and whether it is a door to open."""
    if isinstance(instruction, SeqInstr):
        yield from targets(instruction.instr_a)
        yield from targets(instruction.instr_b)
    for name in ("desc", "desc_move", "desc_fixed"):
        if hasattr(instruction, name):
            yield getattr(instruction, name), isinstance(instruction, OpenInstr)
