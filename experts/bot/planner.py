"""The BabyAI bot's plans: minigrid's planner, made to always return and many times faster.

``minigrid.utils.baby_ai_bot`` plans with a stack of subgoals on a map of what it has seen. Here
its map and its searches are sets of cells, and its faults are cured:

- a locked door whose key is being looked for is not picked for exploration;
- a plan that breaks, never ends or walks in circles is dropped, and a new one made.

Where minigrid's bot solves a level, this one plays the same actions.
"""

import traceback
from typing import Any

import numpy as np
from minigrid.core.actions import Actions
from minigrid.core.constants import DIR_TO_VEC
from minigrid.core.world_object import Door, Key, WorldObj
from minigrid.envs.babyai.core.verifier import ObjDesc
from minigrid.utils.baby_ai_bot import (
    BabyAIBot,
    DropSubgoal,
    ExploreSubgoal,
    GoNextToSubgoal,
    OpenSubgoal,
    PickupSubgoal,
    Subgoal,
)

from experts.bot.search import Map, Position
from pipeline.engines.minigrid import VIEW

MAX_REVISIONS = 1000
"""Changes to a plan before one action; a plan that needs more never ends."""
MAX_RETURNS = 2
"""Returns to the same situation with no fewer subgoals; who returns more often walks in circles."""
MAX_PLANS = 10
"""Plans from the start of an instruction in one episode."""


class GaveUp(Exception):
    """The bot cannot finish this episode; the message is the reason."""


class Bot(BabyAIBot):
    """minigrid's bot for one episode of one level; ``suggest`` replaces ``replan``.

    Finding the way, which takes nearly all of the time, is done here; opening, picking up and
    dropping are left to minigrid's subgoals.
    """

    def __init__(self, level: Any) -> None:
        super().__init__(level)
        self.level = level
        self.map = Map(level)
        self._plans = 1
        self._returns: dict[tuple[int, ...], tuple[int, int]] = {}

    def suggest(self, image: np.ndarray) -> int:
        """The next action, given the observed image, uint8, 147 symbols.

        The action suggested before is taken to have been played. Raises ``GaveUp`` if there is
        no plan.
        """
        self.map.look(image)
        while True:
            try:
                return self._revise()
            except GaveUp:
                if self._plans == MAX_PLANS:
                    raise
                self._plan_afresh()

    def _plan_afresh(self) -> None:
        """Plan as at the start, first laying down what is being carried.

        Every other plan lays things aside as far away as it can, not as near, since it is things
        in the way of each other that plans fail at.
        """
        self._plans += 1
        self._returns.clear()
        self.stack.clear()
        self._process_instr(self.level.instrs)
        if self.level.carrying:
            self._plan(GoNextToSubgoal(self, self._find_drop_pos()), DropSubgoal(self))

    def _revise(self) -> int:
        """Revise the plan until it gives an action; GaveUp if it breaks or leads nowhere."""
        here, subgoals = self.map.state(), len(self.stack)
        before, returns = self._returns.get(here, (subgoals + 1, 0))
        returns += subgoals >= before
        self._returns[here] = subgoals, returns
        if returns > MAX_RETURNS:
            raise GaveUp("walking in circles")
        try:
            return self._next_action()
        except AssertionError as error:  # how minigrid's subgoals fail
            broken = traceback.extract_tb(error.__traceback__)[-1].line
            raise GaveUp(f"the plan broke: {broken}") from error

    def _next_action(self) -> int:
        """What minigrid's ``replan`` returns, when the last suggestion was played."""
        if self.stack:
            self.stack[-1].replan_after_action(None)
        while self.stack and self.stack[-1].is_exploratory():
            self.stack.pop()
        for _ in range(MAX_REVISIONS):
            if not self.stack:
                return int(Actions.done)
            subgoal = self.stack[-1]
            if isinstance(subgoal, ExploreSubgoal):
                action = self._explore()
            elif isinstance(subgoal, GoNextToSubgoal):
                action = self._go_next_to(subgoal)
            else:
                subgoal.update_agent_attributes()
                action = subgoal.replan_before_action()
            if action is not None:
                return int(action)
        raise GaveUp("endless plan")

    def _go_next_to(self, goal: GoNextToSubgoal) -> int | None:
        """Face a thing or a place; with reason "PutNext", an empty cell beside it."""
        thing, at = self._target(goal)
        if at is None:
            self.stack.append(ExploreSubgoal(self))
            return None
        locked = isinstance(thing, Door) and thing.is_locked
        if goal.reason == "Open" and locked and not self.level.carrying:
            self._fetch_key(thing)
            return None
        apart = 1 if goal.reason == "PutNext" else 0
        ahead = self.map.place(self.map.ahead)
        if steps_between(at, self.map.position) == apart:
            return self._step_aside()
        if steps_between(at, ahead) == apart:
            if not apart or self.map.ahead & self.map.empty:
                self.stack.pop()
                return None
            if self.map.ahead & self.map.ajar:  # nothing can be dropped there: move the thing
                dx, dy = DIR_TO_VEC[self.map.heading]
                beyond = ahead[0] + 2 * int(dx), ahead[1] + 2 * int(dy)
                self.stack.append(GoNextToSubgoal(self, beyond))
                return None
        return self._walk(at)

    def _target(self, goal: GoNextToSubgoal) -> tuple[Any, Position | None]:
        """What a subgoal leads to, if it is a thing, and where; ``None`` if it is not known."""
        target: Any = goal.datum
        if isinstance(target, ObjDesc):
            return self._find_obj_pos(target, goal.reason == "PutNext")
        if isinstance(target, WorldObj):
            return target, target.cur_pos
        if target is None:  # what ``_find_drop_pos`` found
            raise GaveUp("nowhere to lay things down")
        return None, tuple(target)

    def _find_obj_pos(
        self, obj_desc: ObjDesc, adjacent: bool = False
    ) -> tuple[WorldObj | None, Position | None]:
        """The nearest thing seen of a description, and where it is; overrides minigrid's.

        Things to be moved out of the way count as some steps. What is too near to be faced, or
        with ``adjacent`` to be faced from the side, counts as a little further.
        """
        assert len(obj_desc.obj_set) > 0
        carrying = self.level.carrying
        nearest, best = 999, (None, None)
        # a key that was used is in obj_set still, and obj_poss shorter
        for thing, at in zip(obj_desc.obj_set, obj_desc.obj_poss, strict=False):
            cell = self.map.cell(at)
            if thing.type == "wall" or thing is carrying or not cell & self.map.seen:
                continue
            legs = self.map.legs(cell, through=True)
            assert legs
            distance = sum(length for _, length in legs)
            if len(legs) > 1:
                distance += 7 if carrying else 4
            if distance == 0:
                distance = 3 if adjacent else 2
            if distance == 1 and adjacent:
                distance = 3
            if distance < nearest:
                nearest, best = distance, (thing, at)
        return best

    def _fetch_key(self, door: Door) -> None:
        """Plan to pick up the key of a door on the way to it."""
        key = ObjDesc("key", door.color)
        key.find_matching_objs(self.level)
        self.stack.pop()
        self._plan(
            GoNextToSubgoal(self, key),
            PickupSubgoal(self),
            GoNextToSubgoal(self, door, reason="Open"),
        )

    def _plan(self, *subgoals: Subgoal) -> None:
        """Put subgoals on the stack, the first one on top."""
        self.stack.extend(reversed(subgoals))

    def _step_aside(self) -> int:
        """Move off the very place that is to be faced."""
        free = self.map.empty | self.map.ajar
        for action, turn in ((Actions.forward, 0), (Actions.right, 1), (Actions.left, 3)):
            if self.map.beside(self.map.agent, (self.map.heading + turn) % 4) & free:
                return int(action)
        return int(Actions.left)

    def _walk(self, at: Position) -> int | None:
        """A step or a turn towards a place, or plans to make it possible."""
        legs = self.map.legs(self.map.cell(at), through=True)
        for direction, _ in self.map.follow(legs):
            turn = (direction - self.map.heading) % 4
            if turn == 0:
                return self._advance()
            right = turn == 1 or (turn == 2 and self._room(1) >= self._room(3))
            return int(Actions.right if right else Actions.left)
        self.stack.append(ExploreSubgoal(self))
        return None

    def _room(self, turn: int) -> int:
        """Steps from the agent to the first wall or door, as far as the view reaches sideways."""
        cell = self.map.agent
        for distance in range(1, VIEW // 2 + 1):
            cell = self.map.beside(cell, (self.map.heading + turn) % 4)
            if cell & (self.map.walls | self.map.doors):
                return distance
        return VIEW // 2

    def _advance(self) -> int | None:
        """Step forward, or plan to open or to move away what stands there."""
        blocker = self.map.thing(self.map.ahead)
        if isinstance(blocker, Door):
            assert not blocker.is_locked
            if not blocker.is_open:
                self._plan(OpenSubgoal(self))
                return None
        elif blocker:
            self._clear_the_way()
            return None
        return int(Actions.forward)

    def _clear_the_way(self) -> None:
        """Plan to put what stands ahead elsewhere, and before it what is being carried."""
        if not self.level.carrying:
            self._plan(
                PickupSubgoal(self), GoNextToSubgoal(self, self._find_drop_pos()), DropSubgoal(self)
            )
            return
        own = self._find_drop_pos()
        other = self._find_drop_pos(own)
        self._plan(
            GoNextToSubgoal(self, own),
            DropSubgoal(self),
            GoNextToSubgoal(self, self.map.place(self.map.ahead)),
            PickupSubgoal(self),
            GoNextToSubgoal(self, other),
            DropSubgoal(self),
            GoNextToSubgoal(self, own),
            PickupSubgoal(self),
        )

    def _find_drop_pos(self, except_pos: Position | None = None) -> Position | None:
        """The nearest good place to drop a thing, else any; overrides minigrid's."""
        spots = self.map.spots(self.map.cell(except_pos) if except_pos else 0)
        if self._plans % 2 == 0:
            spot = next(filter(None, map(self.map.farthest, spots)), 0)
            return self.map.place(spot) if spot else None
        for through in (False, True):
            for cells in spots:
                spot = self.map.nearest(cells, through)
                if spot:
                    return self.map.place(spot)
        return None

    def _explore(self) -> None:
        """Plan to see something new: the nearest unseen cell, else what is behind a door."""
        unseen = self.map.nearest(self.map.unseen, through=True)
        if unseen:
            self._plan(GoNextToSubgoal(self, self.map.place(unseen), reason="Explore"))
            return
        door = self._closed_door()
        key = self.level.carrying
        has_key = isinstance(key, Key) and key.color == door.color
        self.stack.pop()
        self._plan(
            GoNextToSubgoal(self, door, reason="Open"),
            OpenSubgoal(self, reason="KeepKey" if door.is_locked and has_key else None),
        )

    def _closed_door(self) -> Any:
        """The nearest closed door, one that is not locked if there is one.

        A locked door that the plan is already on its way to is not taken: its key is what is
        being looked for, and minigrid's bot would plan for it again, for ever.
        """
        pending = {id(subgoal.datum) for subgoal in self.stack}
        doors = self.map.things(self.map.doors & ~self.map.ajar)
        unlocked = sum(cell for cell, door in doors if not door.is_locked)
        locked = sum(cell for cell, door in doors if door.is_locked and id(door) not in pending)
        for doors in (unlocked, locked):
            door = self.map.nearest(doors, through=True)
            if door:
                return self.map.thing(door)
        raise GaveUp("nothing left to explore")


def steps_between(one: Position, other: Position) -> int:
    """The distance of two places when nothing is in the way."""
    return abs(one[0] - other[0]) + abs(one[1] - other[1])
