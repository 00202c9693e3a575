import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from minigrid.utils.baby_ai_bot import BabyAIBot, Subgoal

from experts.bot import Bot, GaveUp, make_policy
from experts.bot_search import unsolvable
from pipeline.domains.babyai_minigrid import episode_seed, level_factory, make_envs
from pipeline.errors import UserError
from pipeline.tasks import get_task

UNSOLVABLE_SLOT = 14
"""A GoToImpUnlock slot whose first level has the key behind its own door."""
SINGLE_ROOM = ("GoToObj", "OpenDoor", "UnlockLocal", "PutNextLocal", "PickupDist")
MAZES = ("UnlockToUnlock", "KeyCorridor", "Synth", "BossLevel")


@pytest.fixture(scope="module")
def benchmark():
    """The JSON of the speed benchmark, which plays both bots."""
    command = [sys.executable, "-m", "benchmarks.babyai_bot", "--seeds", "8", "--json"]
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [*command, "--levels", *SINGLE_ROOM, *MAZES],
        capture_output=True,
        cwd=root,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", SINGLE_ROOM + MAZES)
def test_plays_as_minigrids_bot_does(benchmark, name):
    level = benchmark["levels"][name]
    assert level["different"] == level["neither"] == 0
    assert level["same"] >= 4


def test_goes_on_where_minigrids_bot_never_returns(benchmark):
    assert benchmark["levels"]["UnlockToUnlock"]["only_ours"] > 0


def test_searches_find_minigrids_paths_and_spots():
    level = level_factory("BabyAI-BossLevel-v0")()
    observation, _ = level.reset(seed=3)
    bot, theirs, rng = Bot(level), BabyAIBot(level), np.random.default_rng(0)
    paths = spots = 0
    for _ in range(60):
        action = bot.suggest(observation["image"])
        theirs._process_obs()
        assert bot.map.seen == mask(bot.map, theirs.vis_mask)
        for target in map(tuple, rng.integers(0, (level.width, level.height), (10, 2)).tolist()):
            for through in (False, True):
                expected, _, blocked = theirs._shortest_path(
                    lambda at, _, target=target: at == target, through
                )
                legs = bot.map.legs(bot.map.cell(target), through)
                found = [bot.map.place(cell) for _, cell in bot.map.follow(legs)]
                assert found == (expected or [])
                assert expected is None or blocked == (len(legs) > 1)
                paths += bool(found)
        for besides in (None, tuple(rng.integers(1, level.width - 1, 2).tolist())):
            spot = theirs._find_drop_pos(besides)
            assert bot._find_drop_pos(besides) == spot
            spots += spot is not None
        observation, *_ = level.step(action)
    assert paths > 100
    assert spots > 100


def mask(known, cells):
    """A bool (width, height) array as a set of cells."""
    return sum(known.cell(at) for at in np.argwhere(cells).tolist())


def test_an_endless_plan_is_given_up():
    class Undecided(Subgoal):
        def replan_before_action(self):
            return None

    class Growing(Subgoal):
        def replan_before_action(self):
            self.bot.stack.append(Growing(self.bot))

    level = level_factory("BabyAI-GoToObj-v0")()
    for endless in (Undecided, Growing):
        observation, _ = level.reset(seed=0)
        bot = Bot(level)
        bot.stack.append(endless(bot))
        with pytest.raises(GaveUp, match="endless plan"):
            bot.suggest(observation["image"])


def test_a_plan_that_breaks_is_given_up():
    class Broken(Subgoal):
        def replan_before_action(self):
            assert self.pos is None

    level = level_factory("BabyAI-GoToObj-v0")()
    observation, _ = level.reset(seed=0)
    bot = Bot(level)
    bot.stack.append(Broken(bot))
    with pytest.raises(GaveUp, match=r"assert self\.pos is None"):
        bot.suggest(observation["image"])


def given_up(level, seed):
    """Whether the bot, played without the check for unsolvable levels, gives up."""
    observation, _ = level.reset(seed=seed)
    bot, ended = Bot(level), False
    while not ended:
        try:
            action = bot.suggest(observation["image"])
        except GaveUp:
            return True
        observation, _, terminated, truncated, _ = level.step(action)
        ended = terminated or truncated
    return False


def test_unsolvable_levels_are_exactly_those_the_bot_gives_up():
    level = level_factory("BabyAI-GoToImpUnlock-v0")()
    hopeless = 0
    for slot in range(30):
        seed = episode_seed(slot, 0)
        level.reset(seed=seed)
        reason = unsolvable(level)
        assert bool(reason) == given_up(level, seed)
        hopeless += bool(reason)
    assert hopeless


def test_a_door_to_open_needs_its_key():
    level = level_factory("BabyAI-UnlockLocal-v0")()
    level.reset(seed=0)
    assert unsolvable(level) == ""
    (key,) = [cell for cell in level.grid.grid if cell is not None and cell.type == "key"]
    level.grid.set(*key.cur_pos, None)
    assert unsolvable(level) == "unsolvable level: no door in reach"


def play(envs, policy, steps):
    """Step all slots; the actions, and for each ended episode (slot, reward, why abandoned)."""
    policy.bind(envs)
    observations = envs.reset()
    ids, started = np.arange(envs.num_envs), np.ones(envs.num_envs, bool)
    played, ended = [], []
    for _ in range(steps):
        actions = policy.act(observations, ids, started, np.zeros(envs.num_envs, np.float32))
        step = envs.step(actions)
        for slot in np.flatnonzero(step.ended):
            ended.append((int(slot), float(step.rewards[slot]), policy.abandoned.get(int(slot))))
        observations, started = step.observations, step.ended
        played.append(actions)
    return np.array(played), ended


@pytest.mark.parametrize(("task", "steps"), [("pickup-loc", 60), ("unlock-to-unlock", 200)])
def test_the_policy_solves_episode_after_episode(task, steps):
    task = get_task(f"babyai-{task}")
    _, ended = play(make_envs(task, [3, 4, 5]), make_policy(task), steps)
    assert {slot for slot, _, _ in ended} == {0, 1, 2}
    assert len(ended) > 6
    assert all(reward > 0.5 and reason is None for _, reward, reason in ended)


def test_an_abandoned_episode_waits_for_its_end_and_is_marked_until_then():
    task = get_task("babyai-go-to-imp-unlock")
    envs, policy = make_envs(task, [UNSOLVABLE_SLOT]), make_policy(task)
    policy.bind(envs)
    limit = envs.envs[0].max_steps if envs.reset() else 0
    played, ended = play(envs, policy, limit + 400)
    assert (played[:limit] == 6).all()
    assert ended[0] == (0, 0.0, "unsolvable level: no grey key in reach")
    assert ended[1][2] is None
    assert ended[1][1] > 0


def test_other_engines_are_refused():
    class Elsewhere:
        num_envs = 1

    with pytest.raises(UserError, match="babyai_minigrid"):
        make_policy(get_task("babyai-go-to")).bind(Elsewhere())


def test_the_checksum_is_stable():
    first, second = make_policy(get_task("babyai-go-to")), make_policy(get_task("babyai-open"))
    assert first.checksum == second.checksum
    assert len(first.checksum) == 64
