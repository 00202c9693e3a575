"""Searches over BabyAI worlds: the bot's paths, and whether a level can be solved at all."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import count
from typing import Any

import numpy as np
from minigrid.core.constants import COLOR_TO_IDX, DIR_TO_VEC, OBJECT_TO_IDX, STATE_TO_IDX
from minigrid.core.world_object import Key
from minigrid.envs.babyai.core.verifier import ObjDesc, OpenInstr, SeqInstr

from pipeline.domains.babyai_minigrid import MARGIN

Position = tuple[int, int]

BARRED, MOVABLE, FREE = range(3)
"""What a map cell is to a search: never entered; entered once moved away; entered."""
CELL_KINDS = np.full((max(OBJECT_TO_IDX.values()) + 1, len(STATE_TO_IDX)), MOVABLE, np.uint8)
"""uint8 (object type, state): the kind of an observed cell."""
CELL_KINDS[OBJECT_TO_IDX["empty"]] = FREE
CELL_KINDS[[OBJECT_TO_IDX["unseen"], OBJECT_TO_IDX["wall"], OBJECT_TO_IDX["door"]]] = BARRED
CELL_KINDS[OBJECT_TO_IDX["door"], STATE_TO_IDX["open"]] = FREE


@lru_cache
def moves(stride: int) -> list[list[Any]]:
    """By heading: (index offset, moves of the new heading) of the four neighbours, in order.

    Straight ahead comes first; minigrid orders the others by swapping the heading's components:
    (dx, dy), (dy, dx), (-dy, -dx), (-dx, -dy).
    """
    offsets = [int(x * stride + y) for x, y in DIR_TO_VEC]
    by_heading: list[list[Any]] = [[] for _ in DIR_TO_VEC]
    for ahead, turned in enumerate([(0, 1, 3, 2), (1, 0, 2, 3), (2, 3, 1, 0), (3, 2, 0, 1)]):
        by_heading[ahead] += [(offsets[heading], by_heading[heading]) for heading in turned]
    return by_heading


@lru_cache
def world_positions(width: int, height: int) -> list[Position]:
    """(x, y) of every index of the world within its margin."""
    return [
        (x - MARGIN, y - MARGIN)
        for x in range(width + 2 * MARGIN)
        for y in range(height + 2 * MARGIN)
    ]


class Flood:
    """A breadth-first search over the map, carried on only as far as it is read."""

    def __init__(self, kinds: bytearray, starts: list[tuple[int, list[Any]]], least: int) -> None:
        """``starts`` has (cell, moves); cells of a kind below ``least`` are met, not entered."""
        self.parents: dict[int, int | None] = {cell: None for cell, _ in starts}
        self._rings = [list(self.parents)]
        self._edge = [start for start in starts if kinds[start[0]] >= least]
        self._kinds, self._least = kinds, least

    def __iter__(self) -> Iterator[list[int]]:
        """Rings of cells at the same distance, each in the order in which they are met."""
        for distance in count():
            if distance == len(self._rings) and not self._advance():
                return
            yield self._rings[distance]

    def _advance(self) -> bool:
        """Meet the next ring; False if there is none."""
        kinds, least, parents = self._kinds, self._least, self.parents
        ring, edge = [], []
        for cell, around in self._edge:
            for offset, onward in around:
                neighbour = cell + offset
                if neighbour not in parents:
                    parents[neighbour] = cell
                    ring.append(neighbour)
                    if kinds[neighbour] >= least:
                        edge.append((neighbour, onward))
        self._edge = edge
        if ring:
            self._rings.append(ring)
        return bool(ring)

    def path(self, cell: int | None) -> list[int]:
        """From ``cell`` back to where the search started."""
        cells = []
        while cell is not None:
            cells.append(cell)
            cell = self.parents[cell]
        return cells


def unsolvable(level: Any) -> str:
    """Why nobody can carry out a level's instructions, or ``""``.

    Everything but walls and locked doors can be opened, moved or stepped over, and a locked door
    opens once a key of its colour has been reached. A level is unsolvable if one of the things
    that its instructions ask for lies beyond that; the generators of Unlock and GoToImpUnlock
    sometimes put the key behind its own door.
    """
    types, colors, states = level.world.T
    locked = (types == OBJECT_TO_IDX["door"]) & (states == STATE_TO_IDX["locked"])
    if not locked.any():
        return ""
    held = level.carrying
    keys = {COLOR_TO_IDX[held.color]} if isinstance(held, Key) else set()
    start = level.cell_index(*level.agent_pos), moves(level.height + 2 * MARGIN)[0]
    while True:
        shut = locked & ~np.isin(colors, list(keys))
        kinds = np.where(shut | (types == OBJECT_TO_IDX["wall"]), BARRED, FREE).astype(np.uint8)
        reached = [cell for ring in Flood(bytearray(kinds), [start], FREE) for cell in ring]
        found = {int(colors[cell]) for cell in reached if types[cell] == OBJECT_TO_IDX["key"]}
        if found <= keys:
            break
        keys |= found
    met, opened = set(reached), set(reached) - set(np.flatnonzero(shut).tolist())
    for wanted, to_open in targets(level.instrs):
        within = opened if to_open else met
        if not any(level.cell_index(*at) in within for at in wanted.obj_poss):
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
