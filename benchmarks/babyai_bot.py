"""How the BabyAI bot does against minigrid's own: levels solved, the same actions, time taken.

Our bot plays ``--seeds`` episodes of each level to the end, minigrid's the first
``--reference-seeds`` of them: ours on our levels, minigrid's on minigrid's, without Gymnasium's
wrappers. Every episode is counted: a level that nobody can solve is checked for at its start, and
minigrid's bot, where it would never return, is stopped after a fixed number of searches. Times are
process times, of levels as well as bots, over the episodes in which minigrid's bot returns.

    python -m benchmarks.babyai_bot --seeds 1000 --reference-seeds 1000 --workers 2 --log bot.jsonl
"""

import argparse
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, redirect_stdout
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
from minigrid.utils.baby_ai_bot import BabyAIBot

from experts.bot.planner import Bot, GaveUp
from experts.bot.search import unsolvable
from pipeline.engines.minigrid import level_factory
from pipeline.tasks import tasks_of

LEVELS = [
    task.gymnasium_id.removeprefix("BabyAI-").removesuffix("-v0") for task in tasks_of("babyai")
]
BLOCK = 25
"""Seeds of a level that a worker plays in one go."""
ENDS = ("solved", "failed", "out of time")
"""How an episode ends that is played to its end."""
NO_RETURN = ("never returns", "breaks")
"""What minigrid's bot does otherwise."""
MAX_SEARCHES = 200
"""Searches of minigrid's bot in one step; over 39 levels no step that returns needs 20."""


class Played(NamedTuple):
    """One episode of one bot."""

    end: str
    """One of ``ENDS``, or why it was not played to its end."""
    actions: str
    """A digit for each."""
    seconds: float


class Pair(NamedTuple):
    """Both bots on one seed; ``theirs`` is None where minigrid's was not asked."""

    level: str
    seed: int
    ours: Played
    theirs: Played | None


class MinigridBot(BabyAIBot):
    """minigrid's bot, stopped when it would never return."""

    def replan(self, action_taken: Any = None) -> Any:
        """The next action of minigrid's own bot; GaveUp after ``MAX_SEARCHES``."""
        self._allowed = self.bfs_counter + MAX_SEARCHES
        return super().replan(action_taken)

    def _breadth_first_search(self, *args: Any, **kwargs: Any) -> Any:
        if self.bfs_counter >= self._allowed:
            raise GaveUp(NO_RETURN[0])
        return super()._breadth_first_search(*args, **kwargs)


def play_ours(level: Any, observation: Any) -> Iterator[int]:
    """Actions of our bot, from a level that was just reset."""
    reason = unsolvable(level)
    if reason:
        raise GaveUp(reason)
    bot = Bot(level)
    while True:
        action = bot.suggest(observation["image"])
        observation = yield action


def play_theirs(level: Any, observation: Any) -> Iterator[int]:
    """Actions of minigrid's bot, from a level that was just reset."""
    bot = MinigridBot(level)
    while True:
        try:
            yield int(bot.replan())
        except AssertionError as error:
            raise GaveUp(NO_RETURN[1]) from error


def play(suggestions: Callable[[Any, Any], Any], level: Any, seed: int) -> Played:
    """One episode."""
    actions, end = [], ""
    start = time.process_time()
    try:
        with redirect_stdout(None):  # minigrid's generators print
            observation, _ = level.reset(seed=seed)
        bot = suggestions(level, observation)
        actions.append(next(bot))
        while not end:
            observation, reward, terminated, truncated, _ = level.step(actions[-1])
            if terminated or truncated:
                end = "solved" if reward > 0 else "failed" if terminated else "out of time"
            else:
                actions.append(bot.send(observation))
    except GaveUp as error:
        end = str(error)
    return Played(end, "".join(map(str, actions)), time.process_time() - start)


@lru_cache
def levels(name: str) -> tuple[Any, Any]:
    """Our level and minigrid's."""
    id = f"BabyAI-{name}-v0"
    return level_factory(id)(), gymnasium.make(id, disable_env_checker=True).unwrapped


def play_block(block: tuple[str, list[int], int]) -> list[Pair]:
    """Both bots on some seeds of a level, minigrid's on those below the last number."""
    name, seeds, reference_seeds = block
    ours, theirs = levels(name)
    return [
        Pair(
            name,
            seed,
            play(play_ours, ours, seed),
            play(play_theirs, theirs, seed) if seed < reference_seeds else None,
        )
        for seed in seeds
    ]


def read_log(path: Path) -> Iterator[Pair]:
    """Episodes that an interrupted run left; a line that was cut off is cut from the file."""
    if not path.exists():
        return
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    os.truncate(path, len(whole))
    for line in whole.splitlines():
        level, seed, ours, theirs = json.loads(line)
        yield Pair(level, seed, Played(*ours), theirs and Played(*theirs))


def play_all(
    names: list[str], seeds: int, reference_seeds: int, workers: int, log: Path | None
) -> list[Pair]:
    """Every level on every seed, in blocks over some processes; what the log has is not played."""
    pairs = {(pair.level, pair.seed): pair for pair in (read_log(log) if log else ())}

    def is_missing(name: str, seed: int) -> bool:
        pair = pairs.get((name, seed))
        return pair is None or (seed < reference_seeds and pair.theirs is None)

    blocks = []
    for first in range(0, seeds, BLOCK):
        for name in names:
            block = range(first, min(first + BLOCK, seeds))
            missing = [seed for seed in block if is_missing(name, seed)]
            if missing:
                blocks.append((name, missing, reference_seeds))
    with ExitStack() as stack:
        run = map
        if workers > 1:
            context = multiprocessing.get_context("spawn")
            run = stack.enter_context(context.Pool(workers)).imap_unordered
        file = stack.enter_context(log.open("a")) if log else None
        for block in run(play_block, blocks):
            for pair in block:
                pairs[pair.level, pair.seed] = pair
                if file:
                    print(json.dumps(pair), file=file, flush=True)
    return [pairs[name, seed] for name in names for seed in range(seeds)]


def compared(ours: Played, theirs: Played) -> str:
    """How an episode of ours stands to minigrid's; "differs" is what nothing explains."""
    if theirs.end not in ENDS:
        return f"minigrid's {theirs.end}"
    if theirs.actions == ours.actions:
        return "same"
    better = ours.end == "solved" and theirs.end != "solved"
    return f"minigrid's {theirs.end}, ours solves it" if better else "differs"


def summary(pairs: Iterable[Pair]) -> dict[str, Any]:
    """Counts of how our episodes end, how they compare, and the seconds of both bots."""
    ends, comparison, theirs_seconds, ours_seconds = Counter(), Counter(), 0.0, 0.0
    for pair in pairs:
        ends[pair.ours.end] += 1
        if pair.theirs is None:
            continue
        comparison[compared(pair.ours, pair.theirs)] += 1
        if pair.theirs.end in ENDS:
            theirs_seconds += pair.theirs.seconds
            ours_seconds += pair.ours.seconds
    return {
        "episodes": ends.total(),
        "ends": dict(ends),
        "compared": dict(comparison),
        "minigrid_seconds": theirs_seconds,
        "our_seconds": ours_seconds,
        "ratio": theirs_seconds / ours_seconds if ours_seconds else 0.0,
    }


def row(name: str, counts: dict[str, Any]) -> str:
    """A line of the table."""
    ends, comparison = Counter(counts["ends"]), Counter(counts["compared"])
    solved, late = ends.pop("solved", 0), ends.pop("out of time", 0)
    hopeless = sum(count for end, count in ends.items() if end.startswith("unsolvable"))
    returns = comparison.total() - sum(comparison[f"minigrid's {end}"] for end in NO_RETURN)
    rate = returns / counts["our_seconds"] if returns else 0.0
    return (
        f"{name:20} {counts['episodes']:6} {solved:6} {hopeless:10} {late:7} "
        f"{ends.total() - hopeless:8} {comparison.total():8} {returns:7} {comparison['same']:6} "
        f"{rate:10.1f} {counts['ratio']:6.2f}"
    )


def main() -> None:
    """Print a line a level, all of them, and the reasons."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--levels", nargs="+", default=LEVELS, help="such as GoToLocal")
    parser.add_argument("--seeds", type=int, default=4, help="episodes a level")
    parser.add_argument("--reference-seeds", type=int, help="of minigrid's bot; default: up to 50")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--log", type=Path, help="file of episodes; a run that has one resumes")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    reference = arguments.reference_seeds
    reference = min(arguments.seeds, 50) if reference is None else reference
    pairs = play_all(arguments.levels, arguments.seeds, reference, arguments.workers, arguments.log)
    print(
        "                      seeds solved unsolvable no time gave up  minigrid returns   same "
        "episodes/s  ratio"
    )
    counts = {name: summary(p for p in pairs if p.level == name) for name in arguments.levels}
    for name in arguments.levels:
        print(row(name, counts[name]))
    total = summary(pairs)
    print(row("all", total))
    for title, reasons in (("ours", total["ends"]), ("beside minigrid's", total["compared"])):
        print(f"{title}: " + "; ".join(f"{count} {reason}" for reason, count in reasons.items()))
    for level, seed, ours, theirs in pairs:
        if theirs and theirs.end in ENDS and theirs.actions != ours.actions:
            print(f"{level} {seed}: {compared(ours, theirs)}")
    if arguments.json:
        print(json.dumps({**total, "levels": counts}))


if __name__ == "__main__":
    main()
