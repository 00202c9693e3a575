"""The BabyAI bot: minigrid's planner, made to always return and several times faster.

``minigrid.utils.baby_ai_bot`` plans with a stack of subgoals on a map of what it has seen. Here
its searches share one flood of the map a step, its map is read from the observation, and three
faults are cured: a plan that never ends is given up, a locked door whose key is being looked for
is not picked for exploration, and levels that nobody can solve are recognised at their start.
Where minigrid's bot returns an action, this one returns the same.
"""

import hashlib
import traceback
from importlib.metadata import version
from pathlib import Path
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

from experts import bot_search
from experts.bot_search import Map, Position, unsolvable
from pipeline.domains.babyai_minigrid import VIEW, MinigridEnv
from pipeline.errors import UserError
from pipeline.types import Observations, Task, VectorEnv

MAX_REVISIONS = 1000
"""Changes to a plan before one action; a plan that needs more never ends."""


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

    def suggest(self, image: np.ndarray) -> int:
        """The next action, given the observed image, uint8, 147 symbols.

        The action suggested before is taken to have been played. Raises ``GaveUp`` if there is
        no plan.
        """
        self.map.look(image)
        try:
            return self._revise()
        except (AssertionError, TypeError) as error:  # how minigrid's subgoals fail
            broken = traceback.extract_tb(error.__traceback__)[-1].line
            raise GaveUp(f"the plan broke: {broken}") from error

    def _revise(self) -> int:
        """Revise the plan until it gives an action."""
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


class BotPolicy:
    """The bot in every slot of a ``MinigridEnv``.

    ``abandoned`` maps a slot to why its running episode must be dropped: set by the ``act`` that
    gave up, cleared by the ``act`` that starts the slot's next episode. Until then the bot plays
    "done", which changes nothing, so that the episode ends at its time limit.
    """

    name = "babyai-bot"

    def __init__(self) -> None:
        sources = [Path(path).read_bytes() for path in (__file__, bot_search.__file__)]
        self.checksum = hashlib.sha256(
            b"".join([*sources, version("minigrid").encode()])
        ).hexdigest()
        self.abandoned: dict[int, str] = {}
        self._levels: list[Any] = []
        self._bots: dict[int, Bot] = {}

    def bind(self, envs: VectorEnv) -> None:
        """Keep the levels; UserError if they are not minigrid's."""
        if not isinstance(envs, MinigridEnv):
            raise UserError(
                f"policy 'experts.bot:make_policy' plans on minigrid's levels, not on "
                f"{type(envs).__name__}: make them with pipeline.domains.babyai_minigrid.make_envs"
            )
        self._levels = envs.envs
        self._bots.clear()
        self.abandoned.clear()

    def act(
        self, observations: Observations, ids: np.ndarray, started: np.ndarray, rewards: np.ndarray
    ) -> np.ndarray:
        """int64 ``(n,)``: the next actions of the slots ``ids``; ``rewards`` change nothing."""
        images = observations["discrete_observations"][:, 1:]
        slots = [int(slot) for slot in ids]
        for slot, new in zip(slots, started, strict=True):
            if new:
                self._start(slot)
        actions = [self._suggest(slot, image) for slot, image in zip(slots, images, strict=True)]
        return np.array(actions, np.int64)

    def _start(self, slot: int) -> None:
        self._bots[slot] = Bot(self._levels[slot])
        self.abandoned.pop(slot, None)
        reason = unsolvable(self._levels[slot])
        if reason:
            self.abandoned[slot] = reason

    def _suggest(self, slot: int, image: np.ndarray) -> int:
        if slot not in self.abandoned:
            try:
                return self._bots[slot].suggest(image)
            except GaveUp as error:
                self.abandoned[slot] = str(error)
        return int(Actions.done)


def make_policy(
    task: Task, folder: Path | None = None, seed: int = 0, threads: int = 1
) -> BotPolicy:
    """The bot for one BabyAI task; it needs no folder, draws nothing and runs on one thread."""
    return BotPolicy()
