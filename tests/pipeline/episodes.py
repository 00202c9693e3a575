"""Made-up episodes and environments for tests."""

import gymnasium
import numpy as np

from pipeline.types import Episode, Observations, Step

TASKS = {
    "mujoco": "mujoco-pendulum",
    "metaworld": "metaworld-reach",
    "babyai": "babyai-go-to-obj",
    "atari": "atari-pong",
}


def make_episode(domain: str, steps: int, seed: int = 0, reset_index: int = 0) -> Episode:
    """An episode of random numbers, stored as the domain stores it."""
    rng = np.random.default_rng((seed, reset_index, steps))
    rewards = rng.standard_normal(steps).astype(np.float32)
    info = {}
    if domain == "atari":
        observations = {"frames": rng.integers(0, 255, (steps + 1, 84, 84), np.uint8)}
    elif domain == "babyai":
        observations = {
            "discrete_observations": rng.integers(0, 9, (steps + 1, 148), np.uint8),
            "text_observations": np.array(["go to the ball é"] * (steps + 1), object),
        }
    else:
        width = 4 if domain == "mujoco" else 39
        rows = rng.standard_normal((steps + 1, width)).astype(np.float32)
        observations = {"continuous_observations": rows}
    if domain in ("atari", "babyai"):
        actions = rng.integers(0, 6, steps)
    else:
        actions = rng.uniform(-1, 1, (steps, 1 if domain == "mujoco" else 4)).astype(np.float32)
    if domain == "metaworld":
        info["success"] = rng.random(steps) < 0.2
    return Episode(
        TASKS[domain], observations, actions, rewards, True, False, seed, reset_index, info
    )


class CountingEnvs:
    """Environments whose observation is (slot, episode, time); slot k's episodes have k + 2 steps.

    The reward is the time, and the action 9 ends an episode early.
    """

    def __init__(self, slots: int, lengths: dict[int, int] | None = None) -> None:
        self.num_envs = slots
        self.lengths = lengths or {slot: slot + 2 for slot in range(slots)}
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(10)
        self.states = np.zeros((slots, 3), np.float32)
        self.states[:, 0] = np.arange(slots)

    def reset(self) -> Observations:
        self.states[:, 1:] = 0
        return {"continuous_observations": self.states.copy()}

    def step(self, actions: np.ndarray, ids: np.ndarray | None = None) -> Step:
        ids = np.arange(self.num_envs) if ids is None else ids
        rewards = self.states[ids, 2].copy()
        self.states[ids, 2] += 1
        lengths = np.array([self.lengths[int(slot)] for slot in ids])
        truncated = self.states[ids, 2] >= lengths
        terminated = (actions == 9) & ~truncated
        ended = terminated | truncated
        finals = {"continuous_observations": self.states[ids[ended]].copy()}
        self.states[ids[ended], 1] += 1
        self.states[ids[ended], 2] = 0
        return Step(
            {"continuous_observations": self.states[ids].copy()},
            actions,
            rewards,
            terminated,
            truncated,
            finals,
            {"success": rewards == 1},
        )

    def close(self) -> None:
        pass
