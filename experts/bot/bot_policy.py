"""The BabyAI bot as a policy: it always ends, and knows the levels that nobody can solve."""

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from minigrid.core.actions import Actions

from experts.bot.planner import Bot, GaveUp
from experts.bot.search import unsolvable
from pipeline import closure
from pipeline.engines.minigrid import MinigridEnv
from pipeline.errors import UserError
from pipeline.types import Observations, Task, VectorEnv


class BotPolicy:
    """The bot in every slot of a ``MinigridEnv``.

    ``abandoned`` maps a slot to why its running episode must be dropped: set by the ``act`` that
    gave up, cleared by the ``act`` that starts the slot's next episode. Until then the bot plays
    "done", which changes nothing, so that the episode ends at its time limit.
    """

    name = "babyai-bot"

    def __init__(self) -> None:
        source = f"{closure.digest(BotPolicy)} minigrid {version('minigrid')}"
        self.checksum = hashlib.sha256(source.encode()).hexdigest()
        self.abandoned: dict[int, str] = {}
        self._levels: list[Any] = []
        self._bots: dict[int, Bot] = {}

    def bind(self, envs: VectorEnv) -> None:
        """Keep the levels; UserError if they are not minigrid's."""
        if not isinstance(envs, MinigridEnv):
            raise UserError(
                f"the BabyAI bot plans on minigrid's levels, not on {type(envs).__name__}: "
                "remove 'babyai.env.engine', or train an expert"
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
