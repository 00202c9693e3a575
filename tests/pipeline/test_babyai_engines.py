"""The two engines of BabyAI agree: an EnvPool level, rebuilt in minigrid, plays the same."""

import re

import envpool
import numpy as np
import pytest
from minigrid.core.grid import Grid
from minigrid.core.world_object import WorldObj
from minigrid.envs.babyai.core import verifier

from pipeline.domains.babyai import observe
from pipeline.engines.minigrid import columns, encode_world, level_factory
from pipeline.tasks import get_task

THING = re.compile(
    r"(?:the|a) (?:(red|green|blue|purple|yellow|grey) )?(ball|box|key|door|object)"
    r"(?: (?:on your )?(left|right|in front of you|behind you))?"
)
PLACES = {"in front of you": "front", "behind you": "behind"}


def described(text):
    color, kind, place = THING.fullmatch(text).groups()
    kind = None if kind == "object" else kind
    return verifier.ObjDesc(kind, color, PLACES.get(place, place))


def instruction(mission):
    for word, compound in (
        (", then ", verifier.BeforeInstr),
        (" after you ", verifier.AfterInstr),
        (" and ", verifier.AndInstr),
    ):
        if word in mission:
            return compound(*map(instruction, mission.split(word)))
    if mission.startswith("put "):
        return verifier.PutNextInstr(*map(described, mission[4:].split(" next to ")))
    verb, thing = re.fullmatch("(go to|open|pick up) (.*)", mission).groups()
    kinds = {"go to": verifier.GoToInstr, "open": verifier.OpenInstr}
    return kinds.get(verb, verifier.PickupInstr)(described(thing))


def rebuild(level, state):
    """Make ``level`` the one of an EnvPool debug state, whose grid is x-major."""
    symbols = np.array(state.grid).reshape(state.width, state.height, 3)
    level.grid = Grid(state.width, state.height)
    for x, y in np.ndindex(state.width, state.height):
        thing = WorldObj.decode(*symbols[x, y])
        level.grid.set(x, y, thing)
        if thing is not None:
            thing.cur_pos = thing.init_pos = (x, y)
    level.world = encode_world(level.grid)
    level.agent_pos, level.agent_dir = tuple(state.agent_pos), state.agent_dir
    level.instrs = instruction(state.mission)
    level.mission = level.instrs.surface(level)
    level.instrs.reset_verifier(level)
    level.max_steps = state.max_steps


@pytest.mark.parametrize(
    "task", ["go-to-local", "put-next-local", "unlock-local", "synth-loc", "boss-level"]
)
def test_a_level_plays_the_same_in_both_engines(task):
    task, slots = get_task(f"babyai-{task}"), 8
    pool = envpool.make_gymnasium(
        task.envpool_id, num_envs=slots, seed=list(range(slots)), num_threads=1
    )
    observations, _ = pool.reset()
    level, rng = level_factory(task.gymnasium_id)(), np.random.default_rng(0)
    for slot, state in enumerate(pool.debug_states()):
        level.reset(seed=slot)
        rebuild(level, state)
        seen = level.gen_obs()
        theirs = observe({name: rows[slot : slot + 1] for name, rows in observations.items()})
        for _ in range(100):
            for name, rows in columns([seen]).items():
                np.testing.assert_array_equal(rows, theirs[name])
            action = rng.choice(7, p=[0.15, 0.15, 0.35, 0.1, 0.1, 0.1, 0.05])
            seen, reward, terminated, truncated, _ = level.step(int(action))
            batch, rewards, ended, late, _ = pool.step(np.array([action]), np.array([slot]))
            theirs = observe(batch)
            assert rewards[0] == pytest.approx(reward)
            assert ended[0] or late[0] if terminated or truncated else not (ended[0] or late[0])
            if terminated or truncated:
                break
