"""How much faster the BabyAI bot plays than minigrid's own, and that it plays the same.

Both play the same seeds of each level to the end, minigrid's bot on minigrid's levels without
Gymnasium's wrappers, ours on ours. Episodes in which minigrid's bot never returns (it is stopped
after a fixed number of searches) or the level is unsolvable count for neither.

    python -m benchmarks.babyai_bot --levels GoToLocal BossLevel --seeds 50
"""

import argparse
import json
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import gymnasium
from minigrid.utils.baby_ai_bot import BabyAIBot

from experts.bot import Bot, GaveUp
from pipeline.domains.babyai_minigrid import level_factory

LEVELS = [
    *("GoToObj", "GoToLocal", "OpenDoor", "UnlockLocal", "PutNextLocal", "PickupDist"),
    *("UnlockToUnlock", "BlockedUnlockPickup", "KeyCorridor", "Synth", "BossLevel", "GoToSeq"),
]
MAX_SEARCHES = 500
"""Searches of minigrid's bot in one step; steps that return need a few dozen."""


class MinigridBot(BabyAIBot):
    """minigrid's bot, stopped when it would never return."""

    def replan(self, action_taken: Any = None) -> Any:
        """As minigrid's; GaveUp after ``MAX_SEARCHES``."""
        self._allowed = self.bfs_counter + MAX_SEARCHES
        return super().replan(action_taken)

    def _breadth_first_search(self, *args: Any, **kwargs: Any) -> Any:
        if self.bfs_counter >= self._allowed:
            raise GaveUp("endless plan")
        return super()._breadth_first_search(*args, **kwargs)


def play_minigrid(level: Any, seed: int) -> list[int]:
    """Actions of one episode of minigrid's bot."""
    level.reset(seed=seed)
    bot, actions, ended = MinigridBot(level), [], False
    while not ended:
        actions.append(int(bot.replan()))
        _, _, terminated, truncated, _ = level.step(actions[-1])
        ended = terminated or truncated
    return actions


def play_ours(level: Any, seed: int) -> list[int]:
    """Actions of one episode of our bot."""
    observation, _ = level.reset(seed=seed)
    bot, actions, ended = Bot(level), [], False
    while not ended:
        actions.append(bot.suggest(observation["image"]))
        observation, _, terminated, truncated, _ = level.step(actions[-1])
        ended = terminated or truncated
    return actions


def timed(play: Callable[[Any, int], list[int]], level: Any, seed: int) -> tuple[list[int], float]:
    """Actions (empty if the bot gave up) and seconds."""
    start = time.perf_counter()
    try:
        with redirect_stdout(None):
            actions = play(level, seed)
    except GaveUp:
        actions = []
    return actions, time.perf_counter() - start


def compare(name: str, seeds: int) -> dict[str, Any]:
    """Counts of episodes and seconds of both bots on ``seeds`` seeds of one level."""
    id = f"BabyAI-{name}-v0"
    theirs, ours = gymnasium.make(id).unwrapped, level_factory(id)()
    result = {"same": 0, "different": 0, "only_ours": 0, "neither": 0, "minigrid": 0.0, "ours": 0.0}
    for seed in range(seeds):
        expected, minigrid_seconds = timed(play_minigrid, theirs, seed)
        actions, our_seconds = timed(play_ours, ours, seed)
        if expected:
            result["minigrid"] += minigrid_seconds
            result["ours"] += our_seconds
            result["same" if actions == expected else "different"] += 1
        else:
            result["only_ours" if actions else "neither"] += 1
    return result


def main() -> None:
    """Print a line a level and the ratio over all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--levels", nargs="+", default=LEVELS, help="such as GoToLocal")
    parser.add_argument("--seeds", type=int, default=10, help="episodes a level")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    levels = {}
    print("level                 same different only ours neither   episodes/s  ratio")
    for name in arguments.levels:
        levels[name] = r = compare(name, arguments.seeds)
        rate, ratio = (r["same"] + r["different"]) / r["ours"], r["minigrid"] / r["ours"]
        print(
            f"{name:20} {r['same']:5} {r['different']:9} {r['only_ours']:9} {r['neither']:7} "
            f"{rate:12.1f} {ratio:6.2f}"
        )
    ratio = sum(r["minigrid"] for r in levels.values()) / sum(r["ours"] for r in levels.values())
    different = sum(r["different"] for r in levels.values())
    print(f"minigrid's time / ours: {ratio:.2f}; episodes that differ: {different}")
    if arguments.json:
        print(json.dumps({"ratio": ratio, "different": different, "levels": levels}))


if __name__ == "__main__":
    main()
