"""Meta-World's scripted policies (``metaworld.policies``), one instance an environment."""

import hashlib
import inspect
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.types import Observations, Task, VectorEnv

COLUMN = "continuous_observations"


class ScriptedPolicy:
    """Calls the package's policy for each environment; some of them keep state."""

    def __init__(self, task: Task) -> None:
        from metaworld.policies import ENV_POLICY_MAP

        if task.gymnasium_id not in ENV_POLICY_MAP:
            raise UserError(f"Meta-World has no scripted policy for {task.id}: train an expert")
        self._make = ENV_POLICY_MAP[task.gymnasium_id]
        self._scripts: dict[int, Any] = {}
        self.name = f"{task.id}-scripted-metaworld-{version('metaworld')}"
        source = inspect.getsource(inspect.getmodule(self._make))  # type: ignore[arg-type]
        self.checksum = hashlib.sha256(source.encode()).hexdigest()
        self.abandoned: dict[int, str] = {}

    def bind(self, envs: VectorEnv) -> None:
        """Nothing to keep: a script reads only observations."""

    def act(
        self, observations: Observations, ids: np.ndarray, started: np.ndarray, rewards: np.ndarray
    ) -> np.ndarray:
        """float32 (n, 4); the environment clips them to its action box, as Meta-World does."""
        rows = observations[COLUMN].astype(np.float64)
        if not rows[:, -3:].any(axis=1).all():
            raise UserError(
                "scripted Meta-World experts read the goal: set 'metaworld.env.goal_visible: "
                "true', or use 'source: train'"
            )
        actions = np.empty((len(ids), 4), np.float32)
        with warnings.catch_warnings():
            # The scripts warn of every action that the environment will clip.
            warnings.simplefilter("ignore")
            for k, env in enumerate(ids.tolist()):
                if started[k]:
                    self._scripts[env] = self._make()
                actions[k] = self._scripts[env].get_action(rows[k])
        return actions


def make_policy(task: Task) -> ScriptedPolicy:
    """The scripted policy of a Meta-World task."""
    return ScriptedPolicy(task)
