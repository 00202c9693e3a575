import json
import sys

import numpy as np
import pytest
from minigrid.utils.baby_ai_bot import BabyAIBot, Subgoal

from benchmarks import babyai_bot
from benchmarks.babyai_bot import compared, play_block
from experts.bot.bot_policy import make_policy
from experts.bot.planner import MAX_PLANS, Bot, GaveUp
from experts.bot.search import targets, unsolvable
from pipeline.engines import make_envs
from pipeline.engines.minigrid import episode_seed, level_factory
from pipeline.errors import UserError
from pipeline.tasks import get_task

UNSOLVABLE_SLOT = 14
"""A GoToImpUnlock slot whose first level has the key behind its own door."""
SINGLE_ROOM = ("GoToObj", "OpenDoor", "UnlockLocal", "PutNextLocal", "PickupDist")
MAZES = ("MiniBossLevel", "KeyCorridor", "Synth", "BossLevel")


@pytest.mark.parametrize("name", SINGLE_ROOM + MAZES)
def test_plays_as_minigrids_bot_does(name):
    pairs = play_block((name, list(range(4)), 4))
    assert [compared(pair.ours, pair.theirs) for pair in pairs] == ["same"] * 4


def test_goes_on_where_minigrids_bot_never_returns():
    (pair,) = play_block(("UnlockToUnlock", [4], 5))
    assert compared(pair.ours, pair.theirs) == "minigrid's never returns"
    assert pair.ours.end == "solved"


@pytest.mark.parametrize("seed", [526, 797, 2309])
def test_starts_anew_when_a_plan_fails(seed):
    """Levels in which minigrid's bot walks in circles (526, 2309) or breaks (797)."""
    level = level_factory("BabyAI-MiniBossLevel-v0")()
    assert babyai_bot.play(babyai_bot.play_ours, level, seed).end == "solved"


def test_the_benchmark_resumes(tmp_path, monkeypatch, capsys):
    command = ["babyai_bot", "--levels", "GoToObj", "--reference-seeds", "1", "--json"]
    command += ["--log", str(tmp_path / "log")]

    def run(seeds):
        monkeypatch.setattr(sys, "argv", [*command, "--seeds", str(seeds)])
        babyai_bot.main()
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    first = run(1)
    assert first["ends"] == {"solved": 1}
    assert first["compared"] == {"same": 1}
    with (tmp_path / "log").open("a") as log:
        log.write('["GoToObj", 1, ["so')  # as a killed run leaves it
    again = run(3)
    assert again["ends"] == {"solved": 3}
    assert again["our_seconds"] == first["our_seconds"]
    assert run(3) == again


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


class Undecided(Subgoal):
    def replan_before_action(self):
        return None


class Growing(Subgoal):
    def replan_before_action(self):
        self.bot.stack.append(Growing(self.bot))


class Broken(Subgoal):
    def replan_before_action(self):
        assert self.pos is None


class Turning(Subgoal):
    def replan_before_action(self):
        return self.actions.left


def follow(bot, observation, steps):
    """Play what the bot suggests."""
    for _ in range(steps):
        observation, *_ = bot.level.step(bot.suggest(observation["image"]))


FAULTS = [
    (Undecided, "endless plan"),
    (Growing, "endless plan"),
    (Broken, r"the plan broke: assert self\.pos is None"),
    (Turning, "walking in circles"),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS)
def test_a_plan_that_fails_is_replaced_and_in_the_end_given_up(fault, reason, monkeypatch):
    level = level_factory("BabyAI-GoToObj-v0")()
    observation, _ = level.reset(seed=0)
    bot = Bot(level)
    bot.stack.append(fault(bot))
    process, plans = bot._process_instr, []
    monkeypatch.setattr(bot, "_process_instr", lambda instr: (plans.append(1), process(instr)))
    ended = False
    while not ended:
        observation, reward, ended, _, _ = level.step(bot.suggest(observation["image"]))
    assert reward > 0
    assert len(plans) == 1

    monkeypatch.setattr(bot, "_process_instr", lambda _: bot.stack.append(fault(bot)))
    observation, _ = level.reset(seed=0)
    bot.stack.append(fault(bot))
    with pytest.raises(GaveUp, match=reason):
        follow(bot, observation, 20 * MAX_PLANS)


def can_reach_everything(level):
    """Whether all of a level's targets can be touched, by a search over what is carried, too.

    An independent and more generous account than ``unsolvable``'s: a state is (agent, doors
    unlocked, key carried), things can be walked over, and a key can be taken again and again.
    """
    at = {(x, y): level.grid.get(x, y) for x in range(level.width) for y in range(level.height)}
    start = tuple(map(int, level.agent_pos)), frozenset(), None
    touched, seen, edge = set(), {start}, [start]
    while edge:
        (x, y), unlocked, key = edge.pop()
        for dx, dy in ((1, 0), (0, 1), (-1, 0), (0, -1)):
            place = x + dx, y + dy
            thing = at[place]
            kind = thing.type if thing is not None else None
            locked = kind == "door" and thing.is_locked and place not in unlocked
            opens = locked and key == thing.color
            touched.add((place, not locked or opens))
            states = []
            if opens:
                states.append(((x, y), unlocked | {place}, key))
            if kind == "key":
                states.append(((x, y), unlocked, thing.color))
            if kind != "wall" and not locked:
                states.append((place, unlocked, key))
            new = set(states) - seen
            seen |= new
            edge += new
    return all(
        any(
            (place, True) in touched or ((place, False) in touched and not to_open)
            for place in wanted.obj_poss
        )
        for wanted, to_open in targets(level.instrs)
    )


@pytest.mark.parametrize("name", ["GoToImpUnlock", "Unlock", "UnlockToUnlock", "BossLevel"])
def test_unsolvable_levels_are_those_that_a_search_over_keys_and_doors_finds(name):
    level = level_factory(f"BabyAI-{name}-v0")()
    hopeless = 0
    for slot in range(20):
        level.reset(seed=episode_seed(slot, 0))
        reason = unsolvable(level)
        assert bool(reason) == (not can_reach_everything(level))
        hopeless += bool(reason)
    assert bool(hopeless) == (name == "GoToImpUnlock")


def test_the_bot_gives_up_unsolvable_levels_unasked():
    level = level_factory("BabyAI-GoToImpUnlock-v0")()
    observation, _ = level.reset(seed=episode_seed(UNSOLVABLE_SLOT, 0))
    bot = Bot(level)
    with pytest.raises(GaveUp, match="nothing left to explore"):
        follow(bot, observation, level.max_steps)


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
    task = get_task("babyai-go-to")
    envs = make_envs(task, [0], engine="envpool")
    with pytest.raises(UserError, match=r"not on EnvPoolEnv: remove 'babyai\.env\.engine'"):
        make_policy(task).bind(envs)
    envs.close()


def test_the_checksum_is_stable():
    first, second = make_policy(get_task("babyai-go-to")), make_policy(get_task("babyai-open"))
    assert first.checksum == second.checksum
    assert len(first.checksum) == 64
