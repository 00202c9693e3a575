"""Transformers' ``Trainer``, told where batches come from and what to write down."""

import csv
import io
import math
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils import get_total_norm
from torch.utils.data import SequentialSampler
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from pipeline.errors import UserError
from pipeline.stage import log, write_atomic
from pipeline.system_errors import naming
from trainer.feed.sampling import BatchPlan
from trainer.model.modeling_jat import JatModel
from trainer.training.speed import Speedometer
from trainer.training.task_losses import TaskLosses


class JatTrainer(Trainer):
    """Trains on the micro-batches of a plan, in its order; logs each domain's and task's loss."""

    def __init__(self, model: JatModel, args: TrainingArguments, plan: BatchPlan) -> None:
        super().__init__(model, args, train_dataset=plan, data_collator=lambda items: items[0])
        self.remove_callback(PrinterCallback)
        self.plan = plan
        self._losses = TaskLosses(len(plan.sources))
        self.watchers = [self._losses]
        """What is told the loss of every row."""
        dtype = torch.bfloat16 if args.bf16 else torch.float32
        self.speedometer = Speedometer(model.config, args.device, dtype)

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.plan)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: they would be guessed from ``input_ids``."""
        return 0

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss of one micro-batch; UserError if it is not finite."""
        tasks = inputs.pop("tasks")
        output = model(**inputs, return_row_losses=True)
        if not math.isfinite(float(output.loss.detach())):
            broken = tasks[~output.row_losses.isfinite()].unique().tolist()
            names = ", ".join(self.plan.sources[task].task for task in broken)
            raise diverged(names, self.state.global_step)
        for losses in self.watchers:
            losses.add(tasks, output.row_losses, inputs["attention_mask"])
        self.speedometer.add(inputs)
        return output.loss

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """A checkpoint that is not written to its end is removed, and its error names it."""
        folder = (
            Path(str(self.args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        )
        with naming(folder):
            try:
                super()._save_checkpoint(model, trial)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add, to a point of the curve, each domain's and task's mean loss, and the speed."""
        if "loss" not in logs:
            super().log(logs, start_time)
            return
        losses, tokens = self._losses.take()
        domains = np.array([source.domain for source in self.plan.sources])
        for name in sorted(set(domains[tokens > 0])):
            drawn = (domains == name) & (tokens > 0)
            mean = np.average(losses[drawn], weights=tokens[drawn])
            logs[f"loss_{name}"] = round(float(mean), 6)
        for task in np.flatnonzero(tokens):
            logs[f"task_loss/{self.plan.sources[task].task}"] = round(float(losses[task]), 6)
        super().log({**logs, **self.speedometer.take()}, start_time)


def diverged(task: str, step: int) -> UserError:
    """The error of a loss or a gradient that is no number."""
    return UserError(
        f"the training diverged on '{task}' at step {step}: lower 'jat.learning_rate' "
        "(the last checkpoint is kept)"
    )


class GradientGuard(TrainerCallback):
    """Stops before a gradient that is no number reaches the weights, and so a checkpoint."""

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any
    ) -> None:
        """UserError unless all gradients are finite."""
        gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        if not math.isfinite(float(get_total_norm(gradients))):
            raise diverged("gradient", state.global_step)


class Progress(TrainerCallback):
    """A bar on a terminal, else a log line a point of the curve: loss, speed, MFU, time left."""

    def __init__(self) -> None:
        self._bar: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any
    ) -> None:
        """Start the clock at the step from which the run goes on."""
        self._start, self._first = time.monotonic(), state.global_step
        if state.is_world_process_zero and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc="train", unit="step"
            )

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: Any,
        control: Any,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the loss and the speed."""
        done = state.global_step - self._first
        if not state.is_world_process_zero or not logs or "loss" not in logs or not done:
            return
        each = (time.monotonic() - self._start) / done
        speed = f"{logs['tokens_per_second']:,.0f} tokens/s, MFU {logs['mfu']:.0%}"
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {float(logs['loss']):.4f}, {speed}")
            return
        log.info(
            "train: step %d of %d, loss %.4f, %s, %.0f s left",
            state.global_step,
            state.max_steps,
            float(logs["loss"]),
            speed,
            each * (state.max_steps - state.global_step),
        )

    def on_train_end(
        self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any
    ) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


class Curve(TrainerCallback):
    """Keeps ``curve.csv`` up to date: step, loss, learning rate and the loss of each domain."""

    def __init__(self, path: Path, domains: list[str]) -> None:
        self._path = path
        self._columns = ["step", "loss", "learning_rate", *(f"loss_{name}" for name in domains)]

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """The last step is a point of the curve, however short the run."""
        control.should_log |= state.global_step == state.max_steps

    def on_log(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Write all points, those before a resume too."""
        if state.is_world_process_zero:
            text = io.StringIO()
            writer = csv.DictWriter(text, self._columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(point for point in state.log_history if "loss" in point)
            write_atomic(self._path, text.getvalue())
