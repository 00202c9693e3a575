"""Evaluation on environments while training: scores for the log, the trackers and a CSV file."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainingArguments

from pipeline.engines import decided_options
from pipeline.params import Params
from pipeline.stage import log, write_atomic
from pipeline.tasks import get_task
from trainer.evaluate import play_task
from trainer.evaluation.jat_policy import JatPolicy
from trainer.evaluation.summary import references
from trainer.training.loop import JatTrainer
from trainer.training.parts import Parts

PREFIX = "eval_"
"""The beginning of a score's name in the log, ``eval_<task>/<kind>``, which trackers show as
``eval/...``."""
KINDS = ("return", "std", "normalised")


class PeriodicEvaluation(TrainerCallback):
    """Plays every RL task each ``jat.evaluate_every`` steps; what is trained does not change.

    The tasks are shared among the processes. The same seeds, hence the same starts of episodes,
    are played each time.
    """

    def __init__(self, trainer: JatTrainer, params: Params, parts: Parts, path: Path) -> None:
        self._trainer, self._params, self._parts, self._path = trainer, params, parts, path
        self._tasks = [task for task, spec in parts.specs.items() if spec.episodic]
        self._settings = params.evaluation.model_copy(
            update={
                "episodes": params.jat.evaluate_episodes,
                "domain_episodes": {
                    spec.domain: params.jat.evaluate_episodes for spec in parts.specs.values()
                },
            }
        )

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Play when it is time, and log the scores before a checkpoint is made."""
        if state.global_step % self._params.jat.evaluate_every:
            return
        with self._trainer.speedometer.paused():
            mine = self._tasks[args.process_index :: args.world_size]
            scores = dict(gather_object(list(self._play(mine).items())))
        point = {f"{PREFIX}{t}/{kind}": v for t in self._tasks for kind, v in scores[t].items()}
        due = control.should_log
        self._trainer.log(point)
        control.should_log = due  # which the scores' own log has taken back
        if state.is_world_process_zero:
            for task in self._tasks:
                values = "  ".join(f"{kind} {value:.4g}" for kind, value in scores[task].items())
                log.info("evaluate: step %d, %s: %s", state.global_step, task, values)
            write_atomic(self._path, self._table(state.log_history))

    def _play(self, tasks: list[str]) -> dict[str, dict[str, float]]:
        """Scores of some tasks, by kind; global random state is left as it was."""
        model, seed = self._parts.model, self._params.seed
        model.eval()
        scores = {}
        with torch.random.fork_rng(devices=[]):  # nothing is drawn on a device
            for task in tasks:
                spec = self._parts.specs[task]
                sample = self._settings.samples(spec.domain)
                policy = JatPolicy(model, self._parts.processor, spec, sample, seed)
                options = decided_options(get_task(task), self._params.env_of(task))
                result = play_task(task, policy, self._settings, options, seed)
                scores[task] = summarise(task, result["returns"])
        model.train()
        return scores

    def _table(self, history: list[dict[str, Any]]) -> str:
        """All evaluations, those before a resume too, as CSV: a row a step and task."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["step", "task", *KINDS])
        for point in history:
            for task in self._tasks:
                if f"{PREFIX}{task}/return" in point:
                    row = [point.get(f"{PREFIX}{task}/{kind}", "") for kind in KINDS]
                    writer.writerow([point["step"], task, *row])
        return text.getvalue()


def summarise(task: str, returns: list[float]) -> dict[str, float]:
    """Mean and deviation of a task's returns, and the mean normalised where it can be."""
    score = {"return": float(np.mean(returns)), "std": float(np.std(returns))}
    known = references(task)
    for reference in (known["measured"], known["published"]):
        if reference.usable:
            score["normalised"] = float(reference.normalise(score["return"]))
            break
    return {kind: round(value, 6) for kind, value in score.items()}
