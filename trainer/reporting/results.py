"""What the stages have left behind, task by task: the input of the report.

Only files are read. A stage that has not run leaves ``None`` in its fields and a line in
``Results.missing``; a file that is broken is an error.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.domains import CORPUS_DOMAINS
from pipeline.engines import identity
from pipeline.errors import UserError
from pipeline.files import (
    DatasetMetrics,
    EpisodesManifest,
    Mean,
    Score,
    Scores,
    TextReport,
    TrainingMetrics,
    VisionReport,
    read_model,
)
from pipeline.params import Params
from pipeline.parity import parity_of
from pipeline.published import PublishedScore, agent_scores
from pipeline.tasks import get_task

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class TaskResult:
    """All that is known of one task."""

    id: str
    domain: str
    title: str
    engine: str
    """The engine that plays the task, and the simulator that it loads."""
    simulator: str
    parity: str
    """How far that was measured to be the task (see ``pipeline.parity``)."""
    published_expert: float | None
    published_random: float | None
    published_jat: PublishedScore | None
    expert: dict[str, Any] | None
    """The gate's ``score.json``: mean, std, episodes, success, normalised, verdict."""
    curve: Points
    """(agent steps, mean return) of the expert's training."""
    random: float | None
    episodes: dict[str, Any] | None
    """The manifest's totals: rows, steps, bytes; ``dropped``, their sum; ``mean`` return."""
    jat: dict[str, Any] | None
    """JAT's row of ``scores.json``: mean, std, episodes; normalised, normalised_low and
    normalised_high by our expert, and again under ``published`` by the paper's."""

    @property
    def normalised(self) -> dict[str, float | None]:
        """JAT's normalised, normalised_low and normalised_high: by our expert where that is
        better than random play, by the paper's otherwise."""
        if self.jat is None:
            return {}
        return self.jat["published"] if self.by_the_papers else self.jat

    @property
    def by_the_papers(self) -> bool:
        """Whether ``normalised`` has to go by the paper's expert."""
        return self.jat is not None and self.jat["normalised"] is None


@dataclass(frozen=True)
class CorpusResult:
    """What became of one corpus."""

    name: str
    domain: str
    read: int
    kept: int
    size: int
    """Bytes of what is kept: of the texts, or of the encoded pictures."""
    dropped: dict[str, int]
    """Documents or pictures by the reason of their removal, most frequent first."""
    score: dict[str, float] | None
    """JAT's on the test split: loss, perplexity, accuracy, tokens."""
    samples: bytes | None
    """A contact sheet, PNG."""


@dataclass(frozen=True)
class Results:
    """All that the report shows."""

    tasks: list[TaskResult]
    corpora: list[CorpusResult]
    dataset: dict[str, Any] | None
    """``metrics/dataset.json``: tasks, rows, steps, bytes."""
    training: dict[str, Any] | None
    """``metrics/jat.json``: steps, tokens, parameters, losses."""
    losses: dict[str, Points]
    """Curve -> (optimizer step, loss); ``loss`` is the mean over all domains."""
    aggregates: dict[str, dict[str, Any]]
    """Domain -> iqm, low, high: by our experts, or by the paper's where ours are of no use."""
    missing: list[str] = field(default_factory=list)
    """What has not run, in words."""

    @property
    def by_domain(self) -> dict[str, list[TaskResult]]:
        """Domain -> its tasks, in the order of the profile."""
        groups: dict[str, list[TaskResult]] = {}
        for task in self.tasks:
            groups.setdefault(task.domain, []).append(task)
        return groups


def load_results(params: Params) -> Results:
    """Read what there is of a profile's outputs."""
    random = optional(paths.RANDOM_SCORES, dict[str, Mean]) or {}
    evaluation = optional(paths.EVALUATION / "scores.json", Scores) or {}
    scores, read = evaluation.get("tasks", {}), evaluation.get("corpora", {})
    tasks = [
        load_task(id, params.env_of(id), random.get(id), scores.get(id)) for id in params.tasks
    ]
    corpora = [
        load_corpus(kind, corpus.name, read.get(corpus.name))
        for kind in CORPUS_DOMAINS
        for corpus in getattr(params, kind)
    ]
    results = Results(
        tasks,
        [corpus for corpus in corpora if corpus is not None],
        optional(paths.METRICS / "dataset.json", DatasetMetrics),
        optional(paths.METRICS / "jat.json", TrainingMetrics),
        read_losses(paths.JAT / "curve.csv"),
        {
            name: row if "iqm" in row else row["published"]
            for name, row in evaluation.get("domains", {}).items()
        },
    )
    results.missing.extend(find_missing(results, params))
    return results


def load_task(
    id: str, options: dict[str, Any], random: dict[str, Any] | None, jat: dict[str, Any] | None
) -> TaskResult:
    """What the stages know of one task, whose environments have these options."""
    task = get_task(id)
    played_by = identity(task, options)
    folder = paths.expert_folder(task)
    manifest = optional(paths.episodes_folder(task) / "manifest.json", EpisodesManifest)
    if manifest is not None:
        dropped, mean = sum(manifest["dropped"].values()), manifest["returns"].get("mean")
        manifest = {**manifest["totals"], "dropped": dropped, "mean": mean}
    return TaskResult(
        id,
        task.domain,
        task.title,
        played_by["engine"],
        played_by["simulator"],
        parity_of(id, played_by),
        task.expert_mean,
        task.random_mean,
        agent_scores().get(id),
        optional(folder / "score.json", Score),
        read_points(folder / "curve.csv", "steps", "return".__eq__).get("return", []),
        random.get("mean") if random else None,
        manifest,
        jat,
    )


REPORTS = {"text": TextReport, "vision": VisionReport}
"""The shape of a corpus' ``report.json``, by what its documents are."""


def load_corpus(domain: str, name: str, score: dict[str, float] | None) -> CorpusResult | None:
    """The report of one corpus; ``None`` if it has not been built."""
    folder = paths.corpus_folder(domain, name)
    report = optional(folder / "report.json", REPORTS[domain])
    if report is None:
        return None
    if "documents" in report:
        read, kept = report["documents"]["in"], report["documents"]["kept"]
        size, dropped = report["bytes"]["kept"], dict(report["dropped"])
    else:
        splits = [report["train"], report["test"]]
        kept = sum(split["images"] for split in splits)
        size = sum(split["image_bytes"] for split in splits)
        dropped = {}
        for split in splits:
            for reason, count in split["dropped"].items():
                dropped[reason] = dropped.get(reason, 0) + count
        read = kept + sum(dropped.values())
    samples = folder / "samples.png"
    return CorpusResult(
        name,
        domain,
        read,
        kept,
        size,
        dict(sorted(dropped.items(), key=lambda item: -item[1])),
        score,
        samples.read_bytes() if samples.exists() else None,
    )


def read_losses(path: Path) -> dict[str, Points]:
    """JAT's curve: ``loss`` and one ``loss_<domain>`` for each domain."""
    return read_points(path, "step", lambda name: name == "loss" or name.startswith("loss_"))


def read_points(path: Path, x: str, wanted: Callable[[str], bool]) -> dict[str, Points]:
    """Column -> its points in a CSV file, empty cells left out; nothing without the file."""
    if not path.exists():
        return {}
    points: dict[str, Points] = {}
    try:
        with path.open(newline="", encoding="utf8") as file:
            for row in csv.DictReader(file):
                for name in filter(wanted, row):
                    if row[name]:
                        points.setdefault(name, []).append((float(row[x]), float(row[name])))
    except (KeyError, TypeError, ValueError):
        raise UserError(f"'{path}' is not a curve: delete it and run its stage again") from None
    return points


def optional(path: Path, shape: Any) -> Any:
    """A JSON file of this shape, ``None`` if it is not there."""
    return read_model(path, shape) if path.exists() else None


def find_missing(results: Results, params: Params) -> list[str]:
    """One line for each kind of output that is not there, or not there for every task."""
    learners = [t for t in results.tasks if params.domain(t.domain).expert.source_of(t.id) != "bot"]
    found = {
        "experts": (sum(task.expert is not None for task in learners), len(learners)),
        "random scores": (
            sum(task.random is not None for task in results.tasks),
            len(results.tasks),
        ),
        "episodes": (sum(task.episodes is not None for task in results.tasks), len(results.tasks)),
        "corpora": (len(results.corpora), len(params.text) + len(params.vision)),
        "dataset": (int(results.dataset is not None), 1),
        "JAT's training": (int(results.training is not None), 1),
        "JAT's evaluation": (
            sum(task.jat is not None for task in results.tasks),
            len(results.tasks),
        ),
    }
    return [
        f"{name}: not run" if not count else f"{name}: {count} of {total}"
        for name, (count, total) in found.items()
        if count < total
    ]
