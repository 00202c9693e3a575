"""Put a reference environment into the state from which an engine's episode starts."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.parity.reference import metaworld_env, mujoco_env
from pipeline.types import Task

PLAIN = {
    "mujoco-ant": (2, 15, 14),
    "mujoco-halfcheetah": (1, 9, 9),
    "mujoco-hopper": (1, 6, 6),
    "mujoco-humanoid": (2, 24, 23),
    "mujoco-pendulum": (0, 2, 2),
    "mujoco-standup": (2, 24, 23),
    "mujoco-swimmer": (2, 5, 5),
    "mujoco-walker": (1, 9, 9),
}
"""Task -> positions that its observation leaves out, and the numbers of positions and speeds."""
Started = tuple[Any, np.ndarray]
"""An environment and its first observation."""


def start_like(task: Task, seed: int, first: np.ndarray) -> Started | None:
    """A reference environment in the state of a first episode; ``None`` where none is known.

    ``seed`` is the slot's, ``first`` the engine's first observation.
    """
    return STARTS[task.domain](task, seed, first)


def start_mujoco(task: Task, seed: int, first: np.ndarray) -> Started | None:
    """The state is read from the observation."""
    state = mujoco_state(task.id, first)
    if state is None:
        return None
    env = mujoco_env(task)
    env.reset(seed=seed)
    env.unwrapped.set_state(*state)
    return env, env.unwrapped._get_obs()


def mujoco_state(task: str, first: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Positions and speeds, from an observation; positions that it leaves out are 0."""
    if task in PLAIN:
        hidden, positions, speeds = PLAIN[task]
        seen = positions - hidden
        return np.concatenate([np.zeros(hidden), first[:seen]]), first[seen : seen + speeds]
    if task == "mujoco-doublependulum":  # x, sines, cosines, speeds
        return np.array([first[0], *np.arctan2(first[1:3], first[3:5])]), first[5:8]
    if task == "mujoco-reacher":  # cosines, sines, target, speeds
        angles = np.arctan2(first[2:4], first[0:2])
        return np.concatenate([angles, first[4:6]]), np.concatenate([first[6:8], [0.0, 0.0]])
    if task == "mujoco-pusher":  # joints, speeds, tip, object, goal
        slides = (first[17:19] - [0.45, -0.05])[::-1]  # y first, from where the model has it
        speeds = np.concatenate([first[7:14], np.zeros(4)])
        return np.concatenate([first[:7], slides, np.zeros(2)]), speeds
    return None


def start_metaworld(task: Task, seed: int, first: np.ndarray) -> Started | None:
    """Goal and object are drawn from the slot's seed: the package's way, or EnvPool's."""
    env = metaworld_env(task, seed)
    observation, _ = env.reset()
    if np.allclose(observation, first, atol=1e-5):
        return env, observation
    env.close()
    env = metaworld_env(task, seed)
    replay_draws(env, mersenne_vectors(env, seed))
    observation, _ = env.reset()
    placed = np.abs(observation - first)[[4, 5, 6, 36, 37, 38]] < 2e-2  # object and goal
    return (env, observation) if placed.sum() >= 5 else None


def mersenne_vectors(env: Any, seed: int) -> Callable[[], np.ndarray]:
    """What EnvPool's ``std::mt19937`` draws for a task: 53-bit uniform numbers in its box."""
    words = np.random.RandomState(seed)  # the very generator
    low = env._random_reset_space.low.astype(np.float64)
    high = env._random_reset_space.high.astype(np.float64)

    def draw() -> np.ndarray:
        pairs = words.randint(0, 2**32, (len(low), 2), dtype=np.uint32).astype(np.float64)
        return low + (high - low) * (pairs[:, 0] + pairs[:, 1] * 2.0**32) / 2.0**64

    return draw


def replay_draws(env: Any, draw: Callable[[], np.ndarray]) -> None:
    """Let ``draw`` choose the next reset of a Meta-World environment.

    The package's ``reset`` builds the scene twice; both times get the same vectors.
    """
    drawn: list[np.ndarray] = []
    build = env.reset_model

    def vector(source: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
        def take() -> np.ndarray:
            drawn.append(source())
            return drawn[-1].copy()

        return take

    def again() -> np.ndarray:
        kept = iter(list(drawn))
        env._get_state_rand_vec = lambda: next(kept).copy()
        env.reset_model = build
        return build()

    def once() -> np.ndarray:
        built = build()
        env.reset_model = again
        return built

    env._get_state_rand_vec, env.reset_model = vector(draw), once


def start_babyai(task: Task, seed: int, first: np.ndarray) -> Started | None:
    """The level of the same seed, where the engine builds the same one."""
    from benchmarks.parity.reference import babyai

    envs = babyai(task, [seed])
    observation = envs.reset()["discrete_observations"][0]
    if not np.array_equal(observation, first):
        return None
    return envs.envs[0], observation


STARTS: dict[str, Callable[[Task, int, np.ndarray], Started | None]] = {
    "babyai": start_babyai,
    "metaworld": start_metaworld,
    "mujoco": start_mujoco,
}
