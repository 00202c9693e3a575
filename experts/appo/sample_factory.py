"""Our vector environments inside Sample Factory's APPO, and what 2.1.1 needs on current releases.

One worker holds all environments of a task as one batched EnvPool. The default is Sample
Factory's serial mode: sampling and learning take turns in this process. ``serial_mode: false`` in
an expert's recipe moves them to processes of their own.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from sample_factory.algo.learning import learner, learner_worker
from sample_factory.algo.runners import runner as runner_module
from sample_factory.algo.runners.runner import AlgoObserver, Runner
from sample_factory.algo.utils import make_env
from sample_factory.algo.utils.context import global_model_factory
from sample_factory.algo.utils.env_info import extract_env_info
from sample_factory.algo.utils.misc import EPISODIC, ExperimentStatus
from sample_factory.envs.env_utils import register_env
from sample_factory.train import make_runner

from experts.appo.checkpoints import (
    BEST,
    best_checkpoint,
    newest_checkpoint,
    read_checkpoint,
    steps_of,
)
from experts.appo.curve import Curve
from experts.appo.encoder import make_encoder
from experts.appo.inputs import Inputs
from experts.appo.recipe import Training, make_config
from experts.appo.watchdog import Watchdog, raise_last_words
from pipeline.domains import get_domain
from pipeline.engines import make_envs
from pipeline.errors import UserError
from pipeline.seeds import env_seeds
from pipeline.tasks import get_task
from pipeline.types import Observations, VectorEnv

SCORE = "score"
"""Key of the finished episodes' returns in Sample Factory's episodic statistics."""


class TrainingEnv(gymnasium.Env):
    """A ``VectorEnv`` as Sample Factory's batched environment: every row is an agent.

    ``infos["score"]`` is float32 ``(num_envs,)``: the unclipped return of a game that ended in
    this step, NaN elsewhere (with Atari's episodic life an episode is a part of a game).
    """

    is_multiagent = True

    def __init__(self, envs: VectorEnv, column: str) -> None:
        self.envs = envs
        self.num_agents = envs.num_envs
        self._inputs = Inputs.of(envs.observation_space)
        self.observation_space = gymnasium.spaces.Dict(obs=_space_of(self._inputs))
        self.action_space = envs.action_space
        self._column = column
        self._returns = np.zeros(envs.num_envs)

    def reset(self, **_: Any) -> tuple[dict[str, torch.Tensor], dict]:
        """Start an episode everywhere; seeds were given at construction."""
        self._returns[:] = 0
        return {"obs": self._seen(self.envs.reset())}, {}

    def step(self, action: np.ndarray):
        """Sample Factory's five tensors; ``truncated`` makes it bootstrap the value."""
        step = self.envs.step(np.asarray(action))
        self._returns += step.info.get("reward", step.rewards)
        over = step.ended
        if "terminated" in step.info:  # of the game, where an episode is one life
            over = (step.info["terminated"] > 0) | step.truncated
        scores = np.where(over, self._returns, np.nan).astype(np.float32)
        self._returns[over] = 0
        return (
            {"obs": self._seen(step.observations)},
            torch.from_numpy(step.rewards),
            torch.from_numpy(step.terminated),
            torch.from_numpy(step.truncated),
            {SCORE: torch.from_numpy(scores)},
        )

    def close(self) -> None:
        """Free the environments."""
        self.envs.close()

    def _seen(self, observations: Observations) -> torch.Tensor:
        return torch.from_numpy(self._inputs.take(observations[self._column]))


def _space_of(inputs: Inputs) -> gymnasium.Space:
    if len(inputs.shape) == 1:
        return gymnasium.spaces.Box(-np.inf, np.inf, inputs.shape, np.float32)
    return gymnasium.spaces.Box(0, 255, inputs.shape, np.uint8)


def make_training_env(
    task_id: str, cfg: Any, env_config: Any = None, render_mode: str | None = None
) -> TrainingEnv:
    """Sample Factory's environment factory; found by name in every process of a run."""
    cure_wrapper()
    task = get_task(task_id)
    domain = get_domain(task.domain)
    worker = 0 if env_config is None else int(env_config["env_id"])
    seeds = env_seeds(cfg.seed, "train", task.id, worker, cfg.resumed_at, count=cfg.task_envs)
    options = {**cfg.task_options, **domain.training_options}
    envs = make_envs(task, seeds, threads=cfg.task_threads, **options)
    return TrainingEnv(envs, task.modality.observation_column)


def cure_wrapper() -> None:
    """Gymnasium 1 wrappers forward no attributes: without these a batch counts as one agent."""
    wrapper: Any = make_env.BatchedListToDictWrapper
    wrapper.num_agents = property(lambda self: self.env.num_agents)
    wrapper.is_multiagent = property(lambda self: self.env.is_multiagent)


def env_info_in_this_process(cfg: Any) -> Any:
    """Spawning a process for it costs seconds and imports ``__main__`` again."""
    env = make_env.make_env_func_batched(cfg, env_config=None)
    try:
        return extract_env_info(env, cfg)
    finally:
        env.close()


class ResumingLearner(learner.Learner):
    """A learner that goes on where its checkpoint ends, and keeps its best moment."""

    def init(self) -> Any:
        """Sample Factory restarts a linear decay at the full learning rate; here it goes on."""
        data = super().init()
        if isinstance(self.lr_scheduler, learner.LinearDecayScheduler):
            self.lr_scheduler.step = self.train_step
        best = best_checkpoint(Path(self.cfg.train_dir))
        known = read_checkpoint(best).get("best_performance") if best else None
        self.best_performance = -np.inf if known is None else float(known)
        return data

    @staticmethod
    def get_checkpoints(checkpoints_dir: str, pattern: str = "checkpoint_*") -> list[str]:
        """Oldest first, without the unfinished file that a killed process leaves."""
        return sorted(str(path) for path in Path(checkpoints_dir).glob(f"{pattern}.pth"))

    @staticmethod
    def load_checkpoint(checkpoints: list[str], device: Any) -> dict[str, Any] | None:
        """Sample Factory starts from scratch in silence when it cannot read a checkpoint."""
        return read_checkpoint(Path(checkpoints[-1]), device) if checkpoints else None

    def save_best(self, policy_id: int, metric: str, metric_value: float) -> bool:
        """Keep the present state as the best one when no earlier moment scored as much.

        The score is stored in the file itself, so that a killed run remembers it. Only scores of
        whole games count, as ``Watch`` tells them.
        """
        if metric != SCORE or metric_value <= self.best_performance:
            return False
        self.best_performance = float(metric_value)
        path = Path(self.checkpoint_dir(self.cfg, self.policy_id)) / BEST
        temporary = path.with_suffix(".tmp")
        torch.save(self._get_checkpoint_dict(), temporary)
        os.replace(temporary, path)
        return True


class Watch(AlgoObserver):
    """Follows a run: writes its learning curve, feeds its watchdog, tells the best moment."""

    def __init__(self, training: Training, resumed_at: int, watchdog: Watchdog) -> None:
        self.curve = Curve.resume(
            training.folder / "curve.csv", every=max(1, training.steps // 50), steps=resumed_at
        )
        self.watchdog = watchdog
        self.steps = resumed_at

    def on_init(self, runner: Runner) -> None:
        """Hear of finished episodes."""
        runner.policy_msg_handlers[EPISODIC].insert(0, self._on_episodes)

    def on_training_step(self, runner: Runner, training_iteration_since_resume: int) -> None:
        """One more batch was learnt."""
        steps = runner.env_steps.get(0, 0)
        if steps > self.steps:
            self.steps = steps
            self.watchdog.feed()
            self._advance(runner)

    def on_stop(self, runner: Runner) -> None:
        """The run ends."""
        self._advance(runner, last=True)

    def _advance(self, runner: Runner, last: bool = False) -> None:
        if self.curve.advance(self.steps, last) and (score := self.curve.score()) is not None:
            runner.save_best.emit(0, SCORE, score)

    def _on_episodes(self, runner: Runner, message: dict, policy_id: int) -> None:
        scores = np.atleast_1d(message[EPISODIC].pop(SCORE))
        scores = scores[~np.isnan(scores)]
        if len(scores):
            self.curve.add(scores)
            message[EPISODIC][SCORE] = scores  # for TensorBoard, after this


def train(training: Training, *observers: AlgoObserver) -> Path:
    """Train from the newest checkpoint, if there is one, to ``steps``; the final checkpoint.

    ``observers`` hear of the run's progress as its own do.
    UserError for a bad recipe or a stalled run. Killed at any moment, the same call goes on.
    """
    raise_last_words(training.folder)
    checkpoint = newest_checkpoint(training.folder)
    resumed_at = steps_of(checkpoint)
    if checkpoint is not None and resumed_at > training.steps:
        return checkpoint
    remove_broken_settings(training.folder / "run" / "config.json")
    torch.set_num_threads(training.threads)
    runner_module.obtain_env_info_in_a_separate_process = env_info_in_this_process
    learner_worker.Learner = ResumingLearner
    with own_log(training.folder / "run" / "log.txt") as last_error:
        register_env(training.task, make_training_env)
        global_model_factory().register_encoder_factory(make_encoder)
        _, runner = make_runner(make_config(training, resumed_at))
        with Watchdog(runner.event_loop, training.task, training.folder) as watchdog:
            for observer in (Watch(training, resumed_at, watchdog), *observers):
                runner.register_observer(observer)
            status = runner.init()
            if status == ExperimentStatus.SUCCESS:
                status = runner.run()
    if status == ExperimentStatus.INTERRUPTED:
        raise KeyboardInterrupt
    final = newest_checkpoint(training.folder)
    if status != ExperimentStatus.SUCCESS or final is None:
        cause = last_error.error
        if isinstance(cause, UserError):
            raise cause
        raise RuntimeError(f"Sample Factory failed on {training.task}: {cause}") from cause
    return final


def remove_broken_settings(path: Path) -> None:
    """Remove Sample Factory's settings of a run that was stopped while it wrote them."""
    try:
        json.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        return
    except ValueError:
        path.unlink()


class _LastError(logging.Handler):
    """Keeps the exception that Sample Factory logs instead of raising."""

    error: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.error = record.exc_info[1]


@contextmanager
def own_log(path: Path) -> Iterator[_LastError]:
    """Send Sample Factory's log to a file of this run instead of the console."""
    path.parent.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger("rl")
    console, last_error = logger.handlers[:], _LastError()
    file = logging.FileHandler(path)
    file.setFormatter(logging.Formatter("[%(asctime)s] %(message)s"))
    logger.handlers = [file, last_error]
    try:
        yield last_error
    finally:
        logger.handlers = console
        file.close()
