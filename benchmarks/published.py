"""Collection the published way: one Gymnasium environment, one step at a time, all in memory.

As JAT's dataset was made (arXiv 2402.09844, section on the dataset): the policy is called for a
batch of one, rows are kept in Python lists until everything is played, Atari stores the four
frames of each observation as one PNG, and `datasets` writes the Parquet file.
"""

import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import datasets
import gymnasium
import numpy as np
from datasets import Features, Sequence, Value
from PIL import Image

from pipeline.types import Policy, Task

Observe = Callable[[Any], dict[str, np.ndarray]]
"""One observation of Gymnasium -> columns with one row, as a policy wants them."""

FLOATS, SYMBOLS = Sequence(Sequence(Value("float32"))), Sequence(Sequence(Value("int64")))
ACTIONS, REWARDS = Sequence(Value("int64")), Sequence(Value("float32"))
FEATURES: dict[str, dict[str, Any]] = {
    "mujoco": {"continuous_observations": FLOATS, "continuous_actions": FLOATS},
    "metaworld": {"continuous_observations": FLOATS, "continuous_actions": FLOATS},
    "atari": {"image_observations": Sequence(datasets.Image()), "discrete_actions": ACTIONS},
    "babyai": {
        "text_observations": Sequence(Value("string")),
        "discrete_observations": SYMBOLS,
        "discrete_actions": ACTIONS,
    },
}
Rows = dict[str, list[list[Any]]]
"""Column -> episodes -> steps."""


def collect(task: Task, env: Any, policy: Policy | None, steps: int, path: Path) -> int:
    """Play ``steps`` steps in ``env``, the last episode cut, and write them; returns how many.

    In BabyAI the bot of the minigrid package plays, and ``policy`` is ``None``.
    """
    features = Features({**FEATURES[task.domain], "rewards": REWARDS})
    rows: Rows = {name: [] for name in features}
    with redirect_stdout(None):  # minigrid's generator prints its rejected attempts
        while (left := steps - sum(len(episode) for episode in rows["rewards"])) > 0:
            play_episode(task, env, policy, left, rows)
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    return steps


def play_episode(task: Task, env: Any, policy: Policy | None, steps: int, rows: Rows) -> None:
    """Append an episode of at most ``steps`` steps to ``rows``."""
    observation, _ = env.reset(seed=len(rows["rewards"]))
    act, reward = player(task, env, policy), 0.0
    for column in rows.values():
        column.append([])
    for _ in range(steps):
        action = act(observation, reward)
        keep(task.domain, rows, observation, action)
        observation, reward, terminated, truncated, _ = env.step(action)
        rows["rewards"][-1].append(float(reward))
        if terminated or truncated:
            return


def make_env(task: Task) -> Any:
    """The environment that Gymnasium's users make."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls v4 outdated: the data's version is
        if task.domain == "metaworld":
            import metaworld  # noqa: F401  registers its environments

            return gymnasium.make(
                "Meta-World/MT1",
                env_name=task.gymnasium_id,
                max_episode_steps=100,
                disable_env_checker=True,
            )
        if task.domain == "atari":
            import ale_py

            gymnasium.register_envs(ale_py)
            game = gymnasium.make(
                task.gymnasium_id,
                frameskip=1,
                repeat_action_probability=0.0,
                disable_env_checker=True,
            )
            game = gymnasium.wrappers.AtariPreprocessing(game, frame_skip=4)
            return gymnasium.wrappers.FrameStackObservation(game, 4)
        if task.domain == "babyai":
            import minigrid  # noqa: F401  registers its levels
        return gymnasium.make(task.gymnasium_id, disable_env_checker=True)


def player(task: Task, env: Any, policy: Policy | None) -> Callable[[Any, float], Any]:
    """(observation, last reward) -> action, for one episode."""
    if policy is None:
        from minigrid.utils.baby_ai_bot import BabyAIBot

        bot = BabyAIBot(env.unwrapped)
        return lambda observation, reward: bot.replan()
    ids, started = np.arange(1), np.ones(1, bool)
    name = "image_observations" if task.domain == "atari" else "continuous_observations"
    dtype = np.uint8 if task.domain == "atari" else np.float32

    def act(observation: Any, reward: float) -> Any:
        row = np.asarray(observation, dtype)[None]
        (action,) = policy.act({name: row}, ids, started.copy(), np.array([reward], np.float32))
        started[:] = False
        if task.domain == "atari":
            return int(action)
        return np.clip(action, env.action_space.low, env.action_space.high)

    return act


def keep(domain: str, rows: Rows, observation: Any, action: Any) -> None:
    """Append one step, but for its reward."""
    if domain == "babyai":
        symbols = [observation["direction"], *observation["image"].flatten().tolist()]
        rows["text_observations"][-1].append(observation["mission"])
        rows["discrete_observations"][-1].append(symbols)
    elif domain == "atari":
        stack = np.ascontiguousarray(np.moveaxis(observation, 0, -1))
        rows["image_observations"][-1].append(Image.fromarray(stack))  # RGBA
    else:
        rows["continuous_observations"][-1].append(observation.astype(np.float32).tolist())
        rows["continuous_actions"][-1].append(action.tolist())
        return
    rows["discrete_actions"][-1].append(int(action))
