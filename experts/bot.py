"""The BabyAI bot: minigrid's planner, made to always return and several times faster.

``minigrid.utils.baby_ai_bot`` plans with a stack of subgoals on a map of what it has seen. Here
its searches share one flood of the map a step, its map is read from the observation, and three
faults are cured: a plan that never ends is given up, a locked door whose key is being looked for
is not picked for exploration, and levels that nobody can solve are recognised at their start.
Where minigrid's bot returns an action, this one returns the same.
"""

import hashlib
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from minigrid.core.actions import Actions
from minigrid.core.constants import OBJECT_TO_IDX
from minigrid.core.world_object import Door, WorldObj
from minigrid.utils.baby_ai_bot import (
    BabyAIBot,
    ExploreSubgoal,
    GoNextToSubgoal,
    OpenSubgoal,
)

from experts import bot_search
from experts.bot_search import (
    CELL_KINDS,
    FREE,
    MOVABLE,
    Flood,
    Position,
    moves,
    unsolvable,
    world_positions,
)
from pipeline.domains.babyai_minigrid import AGENT_CELL, MARGIN, MinigridEnv
from pipeline.errors import UserError
from pipeline.types import Observations, Task, VectorEnv

MAX_REVISIONS = 1000
"""Changes to a plan before one action; a plan that needs more never ends."""

Accept = Callable[[Position, WorldObj | None], Any]


class GaveUp(Exception):
    """The bot cannot finish this episode; the message is the reason."""


class Bot(BabyAIBot):
    """minigrid's bot for one episode of one level; ``suggest`` replaces ``replan``."""

    def __init__(self, level: Any) -> None:
        super().__init__(level)
        self.level = level
        shape = level.width + 2 * MARGIN, level.height + 2 * MARGIN
        self._seen = np.zeros(shape, bool)
        self.vis_mask = self._seen[MARGIN:-MARGIN, MARGIN:-MARGIN]
        self._kinds = bytearray(self._seen.size)
        self._moves = moves(shape[1])
        self._positions = world_positions(level.width, level.height)
        self._direct: Flood | None = None
        self._through: Flood | None = None

    def suggest(self, image: np.ndarray) -> int:
        """The next action, given the observed image, uint8 (7, 7, 3).

        The action suggested before is taken to have been played. Raises ``GaveUp`` if there is
        no plan.
        """
        self._observe(image.reshape(-1, 3))
        try:
            return self._revise()
        except (AssertionError, TypeError) as error:  # how minigrid's subgoals fail
            broken = traceback.extract_tb(error.__traceback__)[-1].line
            raise GaveUp(f"the plan broke: {broken}") from error

    def _revise(self) -> int:
        """Revise the plan until it gives an action."""
        if self.stack:
            self.stack[-1].update_agent_attributes()
            self.stack[-1].replan_after_action(None)
        while self.stack and self.stack[-1].is_exploratory():
            self.stack.pop()
        for _ in range(MAX_REVISIONS):
            if not self.stack:
                return int(Actions.done)
            subgoal = self.stack[-1]
            if isinstance(subgoal, ExploreSubgoal):
                self._explore()
                continue
            subgoal.update_agent_attributes()
            action = subgoal.replan_before_action()
            if action is not None:
                return int(action)
        raise GaveUp("endless plan")

    def _observe(self, symbols: np.ndarray) -> None:
        """Enter what is in view, uint8 (49, 3), on the map."""
        cells = self.level.view_cells()
        seen = symbols[:, 0] != OBJECT_TO_IDX["unseen"]
        kinds = CELL_KINDS[symbols[:, 0], symbols[:, 2]]
        kinds[AGENT_CELL] = FREE  # the observation shows what the agent carries there
        cells, kinds = cells[seen], kinds[seen]
        self._seen.reshape(-1)[cells] = True
        np.frombuffer(self._kinds, np.uint8)[cells] = kinds
        self._direct = self._through = None

    def _reach(self) -> Flood:
        """The search from the agent that moves nothing away: one a step."""
        if self._direct is None:
            start = self.level.cell_index(*self.level.agent_pos)
            self._direct = Flood(self._kinds, [(start, self._moves[self.level.agent_dir])], FREE)
        return self._direct

    def _reach_through(self) -> Flood:
        """The search on from ``_reach`` through what can be moved away: one a step."""
        if self._through is None:
            starts = [(cell, self._moves[0]) for ring in self._reach() for cell in ring]
            self._through = Flood(self._kinds, starts, MOVABLE)
        return self._through

    def _find(self, flood: Flood, accept: Accept) -> int | None:
        """The first cell of ``flood`` that ``accept`` takes."""
        grid, width, positions = self.level.grid.grid, self.level.width, self._positions
        for ring in flood:
            for cell in ring:
                x, y = position = positions[cell]
                if accept(position, grid[y * width + x]):
                    return cell
        return None

    def _shortest_path(
        self, accept_fn: Accept, try_with_blockers: bool = False
    ) -> tuple[list[Position] | None, Position | None, bool]:
        """Path to the nearest accepted cell, without the start; that cell; whether through things.

        Overrides minigrid's one or two searches a query by look-ups in two searches a step.
        """
        through = False
        found = self._find(self._reach(), accept_fn)
        if found is not None:
            path = self._reach().path(found)
        elif not try_with_blockers:
            return None, None, False
        else:
            through = True
            found = self._find(self._reach_through(), accept_fn)
            if found is None:
                return None, None, True
            path = self._reach_through().path(found)
            path += self._reach().path(path[-1])[1:]
        return [self._positions[cell] for cell in path[-2::-1]], self._positions[found], through

    def _explore(self) -> None:
        """Plan to see something new: the nearest unseen cell, else what is behind a door."""
        seen = self.vis_mask
        _, unseen, _ = self._shortest_path(lambda at, _: not seen[at], try_with_blockers=True)
        if unseen is not None:
            self.stack.append(GoNextToSubgoal(self, unseen, reason="Explore"))
            return
        door = self._closed_door()
        key = self.level.carrying
        has_key = key is not None and key.type == "key" and key.color == door.color
        self.stack.pop()
        self.stack.append(
            OpenSubgoal(self, reason="KeepKey" if door.is_locked and has_key else None)
        )
        self.stack.append(GoNextToSubgoal(self, door, reason="Open"))

    def _closed_door(self) -> Door:
        """The nearest closed door, one that is not locked if there is one.

        A locked door that the plan is already on its way to is not taken: its key is what is
        being looked for, and minigrid's bot would plan for it again, for ever.
        """
        pending = {id(subgoal.datum) for subgoal in self.stack}

        def closed(_: Position, cell: WorldObj | None) -> bool:
            return (
                isinstance(cell, Door)
                and not cell.is_open
                and not (cell.is_locked and id(cell) in pending)
            )

        def unlocked(at: Position, cell: Any) -> bool:
            return closed(at, cell) and not cell.is_locked

        for accept in (unlocked, closed):
            _, at, _ = self._shortest_path(accept, try_with_blockers=True)
            if at is not None:
                return self.level.grid.get(*at)
        raise GaveUp("nothing left to explore")


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
