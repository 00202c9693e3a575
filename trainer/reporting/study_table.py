"""The table and the figure of a study: interquartile means over tasks, episodes and seeds."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.ownership import check_rows
from pipeline.seeds import sequence
from pipeline.stage import write_atomic, write_json
from trainer.evaluation.scores import Aggregate, Reference, interquartile_mean
from trainer.evaluation.summary import references

LAST_POINTS = 5
"""Points of the learning curve whose mean is the final loss."""


@dataclass(frozen=True)
class Run:
    """One model that was trained and evaluated."""

    losses: dict[str, float]
    """``loss`` and ``loss_<domain>`` at the end of training."""
    returns: dict[str, list[float]]
    """RL task -> returns of its episodes."""
    corpora: dict[str, float]
    """Corpus -> loss on its test split."""

    @classmethod
    def read(cls, curve: Path, results: Mapping[str, Mapping[str, Any]]) -> "Run":
        """From a learning curve and the results of an evaluation."""
        with curve.open(newline="", encoding="utf8") as file:
            rows = list(csv.DictReader(file))
        losses = {}
        for name in [name for name in rows[0] if name.startswith("loss")]:
            values = [float(row[name]) for row in rows if row[name]][-LAST_POINTS:]
            if values:
                losses[name] = float(np.mean(values))
        return cls(
            losses,
            {task: result["returns"] for task, result in results.items() if "returns" in result},
            {task: result["loss"] for task, result in results.items() if "loss" in result},
        )


def reference(task: str) -> Reference | None:
    """Our own random play and expert, else JAT's published ones; ``None`` if neither is usable."""
    known = references(task)
    for candidate in (known["measured"], known["published"]):
        if candidate.usable:
            return candidate
    return None


def normalised(runs: Sequence[Run]) -> list[dict[str, np.ndarray]]:
    """Each run's expert-normalised scores: task -> one an episode."""
    known = {task: reference(task) for task in runs[0].returns}
    return [
        {
            task: usable.normalise(returns)
            for task, returns in run.returns.items()
            if (usable := known[task]) is not None
        }
        for run in runs
    ]


def aggregate_runs(
    scores: Sequence[Mapping[str, np.ndarray]], resamples: int, seed: int
) -> Aggregate:
    """IQM over runs, tasks and episodes, and its 95 % interval.

    A percentile bootstrap in two stages: runs are drawn anew, then the episodes of each of their
    tasks (Agarwal et al. 2021, section 4.1, draw runs within each task). With one run the interval
    does not tell how another seed would train.
    """
    rng = np.random.default_rng(sequence(seed, "study"))
    iqms = np.empty(resamples)
    for k in range(resamples):
        drawn = [scores[run] for run in rng.integers(len(scores), size=len(scores))]
        parts = [rng.choice(values, len(values)) for run in drawn for values in run.values()]
        iqms[k] = interquartile_mean(np.concatenate(parts))
    low, high = np.percentile(iqms, [2.5, 97.5])
    whole = np.concatenate([values for run in scores for values in run.values()])
    return Aggregate(interquartile_mean(whole), float(low), float(high))


def check_study(folder: Path) -> None:
    """UserError if ``write_study`` would replace what is not a study's."""
    beside = (folder / "table.csv", folder / "figure.svg")
    check_rows(folder / "scores.json", ("iqm", "seeds"), *beside)


def write_study(
    folder: Path, runs: Mapping[str, Sequence[Run]], resamples: int, seed: int
) -> list[str]:
    """Write ``scores.json``, ``table.csv`` and ``figure.svg``; returns lines to read.

    UserError if no task's scores can be normalised.
    """
    rows = {}
    for name, models in runs.items():
        scores = normalised(models)
        if not scores[0]:
            raise UserError("no task of the study has an expert better than random play")
        rows[name] = {
            **vars(aggregate_runs(scores, resamples, seed)),
            "seeds": len(models),
            **{task: float(np.mean([run[task].mean() for run in scores])) for task in scores[0]},
            **mean_of([model.losses for model in models]),
            **{f"test_loss_{k}": v for k, v in mean_of([m.corpora for m in models]).items()},
        }
    write_json(folder / "scores.json", rows)
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["variant", *columns])
    for name, row in rows.items():
        writer.writerow([name, *(format_cell(row.get(column)) for column in columns)])
    write_atomic(folder / "table.csv", text.getvalue())
    write_atomic(folder / "figure.svg", draw(rows))
    lines = [
        f"{name}: IQM {row['iqm']:.3f} [{row['low']:.3f}, {row['high']:.3f}], "
        f"final loss {row['loss']:.4f}"
        for name, row in rows.items()
    ]
    tasks = next(iter(runs.values()))[0].returns
    published = [task for task in tasks if not references(task)["measured"].usable]
    if published:
        lines.append(
            f"normalised by published scores, as there are no own ones: {', '.join(published)} "
            "(`python -m experts.random_scores` and the experts' gate make them)"
        )
    return lines


def mean_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Key -> the mean of its values."""
    return {key: float(np.mean([row[key] for row in rows if key in row])) for key in rows[0]}


def format_cell(value: float | None) -> str:
    """A number of a table."""
    return "" if value is None else f"{value:.6g}"


def draw(rows: Mapping[str, Mapping[str, float]]) -> bytes:
    """The IQM of each variant with its interval, SVG."""
    from matplotlib.figure import Figure

    names = list(rows)[::-1]
    figure = Figure(figsize=(6, 0.8 + 0.4 * len(names)), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        row = rows[name]
        axes.plot([row["low"], row["high"]], [place, place], color="tab:blue", linewidth=2)
        axes.plot(row["iqm"], place, "o", color="tab:blue")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("interquartile mean of expert-normalised scores, 95 % interval")
    axes.grid(axis="x", alpha=0.3)
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
