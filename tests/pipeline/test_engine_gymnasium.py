import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from pipeline.engines import slots as engine
from pipeline.engines.gymnasium import GymnasiumEnv, make_registered
from pipeline.engines.spaces import grey_frame
from pipeline.errors import UserError
from pipeline.types import Step, VectorEnv

SEEDS = [11, 22, 33, 44]


@pytest.fixture
def envs():
    """Makes environments; the test fails unless closing them ends all of their processes."""
    opened: list[GymnasiumEnv] = []

    def make(id_or_make, seeds=SEEDS, limit=None, info=(), **options) -> GymnasiumEnv:
        if isinstance(id_or_make, str):
            id_or_make = partial(make_registered, id_or_make, {}, **options)
        opened.append(GymnasiumEnv(id_or_make, seeds, limit=limit, info=info))
        return opened[-1]

    yield make
    for env in opened:
        env.close()
    assert multiprocessing.active_children() == []


class Toy(gymnasium.Env):
    """Counts its steps; an action says how it goes on."""

    observation_space = spaces.Dict(
        {"time": spaces.Box(0, 99, (1,)), "noise": spaces.Box(0, 1, (2,)), "word": spaces.Text(9)}
    )
    action_space = spaces.Discrete(7, start=1)
    GO, TERMINATE, TRUNCATE, BOTH, RAISE, EXIT, SILENT = range(7)
    time = resets = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.resets = 0, self.resets + 1
        return self.observe(), {}

    def step(self, action):
        action -= 1
        assert self.time < 90, "stepped to its end"
        if action == self.RAISE:
            raise LocalFault("no\nway")
        if action == self.EXIT:
            os._exit(3)
        self.time += 1
        terminated, truncated = action in (1, 3), action in (2, 3)
        info = {"success": np.float64(self.time), "fuel": self.time / 4, "lit": self.time == 1}
        if action == self.SILENT:
            info = {"succes": 1}
        return self.observe(), np.float64(self.time), terminated, truncated, info

    def observe(self):
        noise = np.array([random.random(), np.random.rand()])  # noqa: NPY002
        return {"time": np.array([self.time]), "noise": noise, "word": f"{self.resets}:{self.time}"}


class LocalFault(Exception):
    """An exception that pickles badly."""

    def __init__(self, *parts) -> None:
        super().__init__(*parts)
        self.hook = lambda: None


def times(columns) -> list[int]:
    rows = columns["continuous_observations"]
    assert [int(word.split(":")[1]) for word in columns["text_observations"]] == rows[:, 2].tolist()
    return rows[:, 2].astype(int).tolist()


def play(env: VectorEnv, steps: int, seed: int) -> list[Step]:
    """Steps of random actions, the same for a slot however many others there are."""
    generators = [np.random.default_rng((seed, slot_seed)) for slot_seed in env.seeds]
    return [env.step(np.array([draw(env, g) for g in generators])) for _ in range(steps)]


def draw(env: VectorEnv, generator: np.random.Generator):
    if isinstance(env.action_space, spaces.Discrete):
        return generator.integers(env.action_space.n)
    return generator.uniform(-1.5, 1.5, env.action_space.shape)  # beyond most boxes


def same(one: dict, other: dict) -> bool:
    return list(one) == list(other) and all(np.array_equal(one[k], other[k]) for k in one)


IDS = {
    "CartPole-v1": ("continuous", (4,)),
    "Acrobot-v1": ("continuous", (6,)),
    "MountainCarContinuous-v0": ("continuous", (2,)),
    "Taxi-v4": ("discrete", (1,)),
    "minigrid:MiniGrid-Empty-5x5-v0": ("discrete", (148,)),
    "InvertedPendulum-v5": ("continuous", (4,)),
    "Pusher-v5": ("continuous", (23,)),
}


@pytest.mark.parametrize("id", IDS)
def test_a_slot_plays_what_gymnasium_alone_plays(envs, id) -> None:
    kind, shape = IDS[id]
    env = envs(id, seeds=[5, 6], limit=30)
    first = env.reset()
    assert first[f"{kind}_observations"].shape == (2, *shape)
    assert env.observation_space.contains(first[f"{kind}_observations"][0])
    steps = play(env, 70, seed=0)
    for slot, seed in enumerate(env.seeds):
        plain = gymnasium.make(id, disable_env_checker=True)
        layout, generator = env.observation_layout, np.random.default_rng((0, seed))
        observation, _ = plain.reset(seed=seed)
        assert np.array_equal(first[layout.column][slot], layout.encode(observation))
        length = 0
        for step in steps:
            applied = env.action_layout.applied(np.array([draw(env, generator)]))
            assert np.array_equal(step.actions[slot], applied[0])
            observation, reward, terminated, truncated, _ = plain.step(
                env.action_layout.decode(applied[0])
            )
            length += 1
            truncated = (truncated or length == 30) and not terminated
            assert step.rewards[slot] == np.float32(reward)
            assert (step.terminated[slot], step.truncated[slot]) == (terminated, truncated)
            if terminated or truncated:
                row = np.flatnonzero(step.ended).tolist().index(slot)
                final = step.final_observations[layout.column][row]
                assert np.array_equal(final, layout.encode(observation))
                observation, _ = plain.reset()
                length = 0
            row = step.observations[layout.column][slot]
            assert np.array_equal(row, layout.encode(observation))
            if layout.texts:
                assert step.observations["text_observations"][slot] == observation["mission"]
        plain.close()
    assert any(step.ended.any() for step in steps)


def test_the_types_are_those_of_the_contract(envs) -> None:
    env = envs(Toy, info=("success", "fuel", "lit"))
    env.reset()
    step = env.step(np.array([Toy.GO, Toy.TERMINATE, Toy.TRUNCATE, Toy.BOTH]))
    assert (step.actions.dtype, step.rewards.dtype) == (np.int64, np.float32)
    assert (step.terminated.dtype, step.truncated.dtype) == (bool, bool)
    assert step.observations["continuous_observations"].dtype == np.float32
    assert step.observations["text_observations"].dtype == object
    assert {k: v.dtype for k, v in step.info.items()} == {
        "success": bool, "fuel": np.float32, "lit": bool,
    }  # fmt: skip
    step = env.step(np.zeros(4, np.int64))
    assert step.final_observations["continuous_observations"].shape == (0, 3)
    assert step.final_observations["text_observations"].shape == (0,)


def test_an_end_is_a_termination_or_a_truncation_and_keeps_its_last_observation(envs) -> None:
    env = envs(Toy, info=("success", "fuel", "lit"), limit=3)
    assert times(env.reset()) == [0, 0, 0, 0]
    env.step(np.zeros(4, int))
    step = env.step(np.array([Toy.GO, Toy.TERMINATE, Toy.TRUNCATE, Toy.BOTH]))
    assert step.terminated.tolist() == [False, True, False, True]
    assert step.truncated.tolist() == [False, False, True, False]
    assert times(step.observations) == [2, 0, 0, 0]
    assert times(step.final_observations) == [2, 2, 2]
    assert step.final_observations["text_observations"].tolist() == ["1:2"] * 3
    assert step.observations["text_observations"].tolist() == ["1:2", "2:0", "2:0", "2:0"]
    assert step.info["fuel"].tolist() == [0.5] * 4
    assert step.rewards.tolist() == [2] * 4
    assert step.info["lit"].tolist() == [False] * 4
    step = env.step(np.array([Toy.GO, Toy.GO, Toy.GO, Toy.GO]))
    assert step.truncated.tolist() == [True, False, False, False], "the limit of 3"
    assert step.info["lit"].tolist() == [False, True, True, True]
    assert step.info["success"].tolist() == [True] * 4
    assert env.step(np.array([Toy.GO, Toy.GO, Toy.TERMINATE, Toy.GO])).truncated.sum() == 0
    step = env.step(np.array([Toy.GO, Toy.TERMINATE, Toy.GO, Toy.GO]))
    assert step.truncated.tolist() == [False, False, False, True], "a termination wins"


def test_only_the_named_environments_are_stepped(envs) -> None:
    env = envs(Toy, info=("fuel",))
    env.reset()
    env.step(np.zeros(4, int))
    step = env.step(np.array([Toy.TERMINATE, Toy.GO]), np.array([3, 1]))
    assert step.terminated.tolist() == [True, False]
    assert step.info["fuel"].tolist() == [0.5, 0.5]
    assert times(step.observations) == [0, 2]
    assert times(step.final_observations) == [2]
    assert times(env.step(np.array([0]), np.array([0])).observations) == [2]
    assert times(env.step(np.zeros(4, int)).observations) == [3, 3, 2, 1]


@pytest.mark.parametrize("id", ["CartPole-v1", "minigrid:MiniGrid-Empty-5x5-v0"])
def test_a_subset_plays_as_it_would_alone(envs, id) -> None:
    together, alone = envs(id), envs(id, seeds=[SEEDS[2]])
    first = together.reset()
    assert same({name: rows[2:3] for name, rows in first.items()}, alone.reset())
    for number in range(40):
        action = np.array([number % 2])
        together.step(np.array([1, 1]), np.array([0, 3]))
        one, other = together.step(action, np.array([2])), alone.step(action)
        assert same(one.observations, other.observations)
        assert same(one.final_observations, other.final_observations)
        assert (one.rewards, one.ended) == (other.rewards, other.ended)


def test_a_slot_depends_on_its_seed_alone(envs) -> None:
    four, one, again = envs(Toy), envs(Toy, seeds=SEEDS[1:2]), envs(Toy)
    first = four.reset()
    assert same({k: v[1:2] for k, v in first.items()}, one.reset()), "global generators"
    assert same(first, again.reset())
    assert len(np.unique(first["continuous_observations"][:, 0])) == 4
    later = again.reset()["continuous_observations"]
    assert not np.array_equal(later, first["continuous_observations"]), "no seed a second time"


def test_a_second_reset_goes_on_with_the_slots_generators(envs) -> None:
    """As in Gymnasium, where only the first reset has a seed."""
    env, alone = envs("CartPole-v1"), gymnasium.make("CartPole-v1", disable_env_checker=True)
    first, second = (env.reset()["continuous_observations"][0] for _ in range(2))
    assert np.array_equal(first, alone.reset(seed=SEEDS[0])[0])
    assert np.array_equal(second, alone.reset()[0])
    assert not np.array_equal(first, second)
    alone.close()


def test_pictures_are_stacked_grey_frames(envs) -> None:
    env = envs("CartPole-v1", seeds=[7, 8], pixels=True, limit=5)
    plain = make_registered("CartPole-v1", {}, render_mode="rgb_array")
    plain.reset(seed=7)
    frames = [grey_frame(plain.render())] * 4
    stacks = env.reset()["image_observations"]
    assert (stacks.shape, stacks.dtype) == ((2, 4, 84, 84), np.uint8)
    assert np.array_equal(stacks[0], frames)
    for number in range(5):
        step = env.step(np.array([0, 1]))
        plain.step(0)
        frames = [*frames[1:], grey_frame(plain.render())]
        if number < 4:
            assert np.array_equal(step.observations["image_observations"][0], frames)
    assert step.truncated.all()
    assert np.array_equal(step.final_observations["image_observations"][0], frames)
    plain.reset()
    frames = [grey_frame(plain.render())] * 4
    assert np.array_equal(step.observations["image_observations"][0], frames)
    plain.close()


def test_one_environment_is_drawn(envs) -> None:
    env = envs("CartPole-v1", seeds=[1, 2], render_mode="rgb_array")
    env.reset()
    pictures = [env.render(), env.render(1)]
    assert all((p.shape, p.dtype) == ((400, 600, 3), np.uint8) for p in pictures)
    assert not np.array_equal(*pictures)
    blind = envs("CartPole-v1", seeds=[1])
    blind.reset()
    with pytest.raises(UserError, match="render_mode='rgb_array'"):
        blind.render()


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (Toy.RAISE, r"Toy: environment 2 failed: LocalFault: no way \(test_engine_gym.*:\d+\)"),
        (Toy.EXIT, r"Toy: the process of environment 2 died \(exit code 3\)"),
        (Toy.SILENT, "environment 2 failed: the info of a step has no 'success'.*'succes'"),
    ],
)
def test_a_fault_in_an_environment_is_one_line_and_closes_all(envs, action, words) -> None:
    env = envs(Toy, info=("success",))
    env.reset()
    env.step(np.zeros(4, int))
    with pytest.raises(UserError, match=words) as caught:
        env.step(np.array([0, 0, action, 0]))
    assert "\n" not in str(caught.value)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("step_first", [True, False])
def test_a_killed_process_is_one_line(envs, step_first) -> None:
    env = envs(Toy)
    env.reset()
    victim = multiprocessing.active_children()
    victim = next(process for process in victim if process.name.endswith("-1"))
    os.kill(victim.pid, signal.SIGKILL)
    if step_first:
        victim.join()
    with pytest.raises(UserError, match=r"environment 1 died \(exit code -9\)"):
        env.step(np.zeros(4, int))


class Broken(Toy):
    def __init__(self, how: str) -> None:
        if how == "exit":
            os._exit(4)
        if how == "raise":
            raise LocalFault("cannot be")
        if how == "hang":
            time.sleep(60)
        self.how = how

    def reset(self, *, seed=None, options=None):
        if self.how == "second reset" and self.resets == 1:
            raise LocalFault("only once")
        return super().reset(seed=seed)

    def close(self) -> None:
        if self.how == "close":
            time.sleep(60)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("exit", r"the process that made an environment died \(exit code 4\)"),
        ("raise", "cannot be made: LocalFault: cannot be"),
        ("hang", "not made within 0.5 s"),
    ],
)
def test_an_environment_that_cannot_be_made_is_one_line(envs, monkeypatch, how, words) -> None:
    monkeypatch.setattr(engine, "MAKE_SECONDS", 0.5 if how == "hang" else 60)
    monkeypatch.setattr(engine, "CLOSE_SECONDS", 0.1)
    with pytest.raises(UserError, match=words):
        envs(partial(Broken, how))


def test_an_environment_that_can_be_made_only_once_is_one_line(envs, tmp_path, capfd) -> None:
    def make() -> Toy:
        (tmp_path / "lock").touch(exist_ok=False)
        return Toy()

    with pytest.raises(UserError, match="Toy: not every environment could be made") as caught:
        envs(make)
    assert multiprocessing.active_children() == []
    assert "\n" not in str(caught.value)
    assert "FileExistsError" in capfd.readouterr().err  # the process says why


def test_a_fault_in_the_reset_after_an_end_is_one_line(envs) -> None:
    env = envs(partial(Broken, "second reset"))
    env.reset()
    with pytest.raises(UserError, match="environment 3 failed: LocalFault: only once"):
        env.step(np.array([0, 0, 0, Toy.TERMINATE]))


def test_an_environment_that_does_not_close_is_killed(envs, monkeypatch) -> None:
    monkeypatch.setattr(engine, "CLOSE_SECONDS", 0.2)
    env = envs(partial(Broken, "close"))
    env.reset()
    started = time.monotonic()
    env.close()
    assert time.monotonic() - started < 10
    assert multiprocessing.active_children() == []
    env.close()
    with pytest.raises(ValueError, match="closed"):
        env.reset()


def test_environments_that_are_dropped_leave_no_process(envs) -> None:
    env = GymnasiumEnv(Toy, SEEDS)
    env.reset()
    del env
    gc.collect()
    assert multiprocessing.active_children() == []


def test_processes_end_with_the_one_that_made_them() -> None:
    program = (
        "import multiprocessing, os, signal\n"
        "from functools import partial\n"
        "from pipeline.engines.gymnasium import GymnasiumEnv, make_registered\n"
        "env = GymnasiumEnv(partial(make_registered, 'CartPole-v1', {}), [1, 2, 3])\n"
        "env.reset()\n"
        "print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    pids = [int(pid) for pid in run.stdout.split()]
    assert len(pids) == 3
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("id", "options", "words"),
    [
        ("CartPol-v1", {}, "no environment 'CartPol-v1' \\(did you mean 'CartPole-v1'\\?\\)"),
        ("no_such_module:Go-v0", {}, "the module 'no_such_module' cannot be imported"),
        ("CartPole-v1", {"colour": "red"}, "cannot be made with .*colour"),
        ("Pusher-v2", {}, "needs a package that is not installed"),
    ],
)
def test_an_id_that_cannot_be_made_is_one_line(id, options, words) -> None:
    with pytest.raises(UserError, match=words) as caught:
        make_registered(id, options)
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch) -> None:
    def lacking(*_, **__):
        raise gymnasium.error.DependencyNotInstalled("do\n`pip install it`")

    monkeypatch.setattr(gymnasium, "make", lacking)
    with pytest.raises(UserError, match=r"'X-v0' needs .* do `pip install it`"):
        make_registered("X-v0", {})


def test_time_limits_of_the_registration_and_ours(recwarn) -> None:
    assert make_registered("MountainCar-v0", {}).spec.max_episode_steps == 200
    longer = make_registered("MountainCar-v0", {}, max_episode_steps=300)
    longer.reset(seed=0)
    assert [longer.step(1)[3] for _ in range(300)] == [False] * 299 + [True]
    make_registered("CartPole-v0", {})
    assert [w for w in recwarn if "version" in str(w.message)] == []
