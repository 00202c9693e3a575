"""A trained JAT as a ``Policy``: all environments of a task act in one forward pass."""

import hashlib
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from pipeline.errors import UserError
from pipeline.shards import sha256
from pipeline.types import Observations, VectorEnv
from trainer.feed.specs import FILE, TaskSpec, load_specs
from trainer.model.modeling_jat import JatModel
from trainer.model.processing_jat import JatProcessor
from trainer.pretrained import read_pretrained


@lru_cache(maxsize=1)
def load_model(folder: Path, checksum: str) -> tuple[JatModel, JatProcessor]:
    """The network and its processor, once a process; UserError if the folder has none."""
    model, processor = read_pretrained(folder)
    if torch.cuda.is_available():
        model.cuda()  # pyright: ignore[reportCallIssue]
    return model.eval(), processor


def load_policy(
    folder: Path, task: str, sample: bool = False, seed: int = 0, context_share: float = 1.0
) -> "JatPolicy":
    """The JAT of a folder on one task; UserError if it was not trained on that.

    It remembers ``context_share`` of the timesteps of the windows that it was trained on.
    """
    specs = load_specs(folder)
    if task not in specs:
        raise UserError(f"'{folder}' was not trained on '{task}': it knows {', '.join(specs)}")
    checksum = model_checksum(folder)
    context = max(1, int(specs[task].context * context_share))
    spec = replace(specs[task], context=context)
    return JatPolicy(*load_model(folder, checksum), spec, sample, seed, checksum)


def model_checksum(folder: Path) -> str:
    """sha256 of all that decides how the model acts, hexadecimal."""
    others = [folder / name for name in ("config.json", FILE, "tokenizer.json")]
    files = [*sorted(folder.glob("*.safetensors")), *(path for path in others if path.exists())]
    return hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()


class JatPolicy:
    """JAT on one task. Environments that are not stepped get rows that nobody reads."""

    name = "jat"

    def __init__(
        self,
        model: JatModel,
        processor: JatProcessor,
        spec: TaskSpec,
        sample: bool = False,
        seed: int = 0,
        checksum: str = "",
    ) -> None:
        """``sample`` draws discrete actions, by ``seed``; else the likeliest is taken."""
        self.checksum = checksum
        self.abandoned: dict[int, str] = {}
        self._model, self._processor, self._spec = model, processor, spec
        self._observation = f"{spec.observation}_observations"
        self._sample = sample
        self._generator = torch.Generator().manual_seed(seed)

    def bind(self, envs: VectorEnv) -> None:
        """Start with empty windows."""
        self._state = self._model.init_state(envs.num_envs, self._spec.context)
        self._space = envs.action_space
        self._rows: dict[str, np.ndarray] = {}
        size = self._spec.action_size
        self._actions = np.zeros((envs.num_envs, size), np.float32) if size else None

    def act(
        self, observations: Observations, ids: np.ndarray, started: np.ndarray, rewards: np.ndarray
    ) -> np.ndarray:
        """Actions float32 (n, A) within the action box, or int64 (n,)."""
        seen = self._observe(observations)
        reset = np.ones(len(self._state.timesteps), bool)
        reset[ids] = started
        common = {
            self._observation: self._spread("observations", ids, seen),
            "rewards": self._spread("rewards", ids, rewards),
            "reset": reset,
        }
        if self._actions is None:
            actions = self._model.get_next_action(
                self._state,
                num_actions=self._spec.num_actions,
                do_sample=self._sample,
                generator=self._generator,
                **common,
            )
            return actions[ids]
        actions = self._model.get_next_action(
            self._state,
            action_size=self._spec.action_size,
            previous_actions=self._spec.encode(self._actions),
            **common,
        )
        actions = self._spec.decode(actions)
        self._actions = np.clip(actions, self._space.low, self._space.high).astype(np.float32)
        return self._actions[ids]

    def _observe(self, observations: Observations) -> np.ndarray:
        seen = observations[self._observation]
        if self._spec.missions:
            return self._processor.join_missions(seen, list(observations["text_observations"]))
        return self._spec.observe(seen)

    def _spread(self, name: str, ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The rows at their environments' places among all of them."""
        if name not in self._rows:
            count = len(self._state.timesteps)
            self._rows[name] = np.zeros((count, *rows.shape[1:]), rows.dtype)
        self._rows[name][ids] = rows
        return self._rows[name]
