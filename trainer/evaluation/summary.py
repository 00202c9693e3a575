"""What an evaluation says: scores normalised by random play and experts, a task and a domain."""

from typing import Any

import numpy as np

from pipeline.files import Mean, Returns, read_model
from pipeline.paths import RANDOM_SCORES, episodes_folder, expert_folder
from pipeline.tasks import get_task
from pipeline.types import Task
from trainer.evaluation.scores import Reference, aggregate, mean_interval


def references(task: str) -> dict[str, Reference]:
    """``measured``: our own random play and expert; ``published``: JAT's tables, corrected."""
    info = get_task(task)
    scores = read_model(RANDOM_SCORES, dict[str, Mean]) if RANDOM_SCORES.exists() else {}
    random = scores.get(task, {})
    return {
        "measured": Reference(random.get("mean"), expert_mean(info)),
        "published": Reference(info.random_mean, info.expert_mean),
    }


def expert_mean(task: Task) -> float | None:
    """The gate's score of our expert; else the mean of its episodes, as of the BabyAI bot."""
    score, episodes = expert_folder(task) / "score.json", episodes_folder(task) / "manifest.json"
    if score.exists():
        return read_model(score, Mean).get("mean")
    if not episodes.exists():
        return None
    return read_model(episodes, Returns)["returns"].get("mean")


def summarise(results: dict[str, dict[str, Any]], resamples: int, seed: int) -> dict[str, Any]:
    """The content of ``scores.json``.

    ``tasks``: mean, its interval low to high, the same normalised by our own random play and
    expert, and, under ``published``, by JAT's tables. ``domains``: IQM, its interval, the tasks
    that are in it and those that are not, as their expert is unknown or no better than random
    play; under ``published`` again by JAT's tables. ``corpora``: loss, perplexity, accuracy.
    """
    played = {task: result for task, result in results.items() if "returns" in result}
    known = {task: references(task) for task in played}
    domains: dict[str, Any] = {}
    groups: dict[str, dict[str, Any]] = {}
    for task, result in played.items():
        groups.setdefault(result["domain"], {})[task] = result["returns"]
    for domain, returns in groups.items():
        ours = {task: known[task]["measured"] for task in returns}
        theirs = {task: known[task]["published"] for task in returns}
        domains[domain] = {
            **summarise_domain(returns, ours, resamples, seed),
            "published": summarise_domain(returns, theirs, resamples, seed),
        }
    return {
        "tasks": {
            task: {
                "domain": result["domain"],
                "success": result["success"],
                **summarise_task(result["returns"], known[task], resamples, seed),
            }
            for task, result in played.items()
        },
        "domains": domains,
        "corpora": {task: result for task, result in results.items() if task not in played},
    }


def summarise_task(
    returns: list[float], known: dict[str, Reference], resamples: int, seed: int
) -> dict[str, Any]:
    """One task's row."""
    low, high = mean_interval(returns, resamples, seed)
    row: dict[str, Any] = {
        "episodes": len(returns),
        "mean": float(np.mean(returns)),
        "std": float(np.std(returns)),
        "low": low,
        "high": high,
    }

    def normalise(reference: Reference) -> dict[str, Any]:
        values = {"normalised": row["mean"], "normalised_low": low, "normalised_high": high}
        return {
            "random": reference.random,
            "expert": reference.expert,
            **{
                name: float(reference.normalise(value)) if reference.usable else None
                for name, value in values.items()
            },
        }

    return {
        **row,
        **normalise(known["measured"]),
        "published": normalise(known["published"]),
    }


def summarise_domain(
    returns: dict[str, list[float]], known: dict[str, Reference], resamples: int, seed: int
) -> dict[str, Any]:
    """The aggregate over the tasks of a domain whose scores can be normalised."""
    scores = {
        task: known[task].normalise(np.array(values))
        for task, values in returns.items()
        if known[task].usable
    }
    return {
        "tasks": sorted(scores),
        "excluded": sorted(returns.keys() - scores.keys()),
        **(vars(aggregate(scores, resamples, seed)) if scores else {}),
    }


def metrics(scores: dict[str, Any]) -> dict[str, Any]:
    """What ``dvc metrics`` shows: one number a domain and a corpus."""
    return {
        "iqm": {name: row.get("iqm") for name, row in scores["domains"].items()},
        "perplexity": {name: row["perplexity"] for name, row in scores["corpora"].items()},
    }


def table(scores: dict[str, Any]) -> list[str]:
    """Lines that a person reads at the end."""
    lines = []
    for name, row in scores["tasks"].items():
        ours, theirs = (
            "–" if value is None else f"{value:.2f}"
            for value in (row["normalised"], row["published"]["normalised"])
        )
        lines.append(
            f"{name}: {row['mean']:.2f} ± {row['std']:.2f}, expert-normalised {ours} "
            f"(by the published expert {theirs})"
        )
    for name, row in scores["corpora"].items():
        lines.append(f"{name}: perplexity {row['perplexity']:.1f}, accuracy {row['accuracy']:.3f}")
    for name, row in scores["domains"].items():
        if "iqm" in row:
            lines.append(f"{name}: IQM {row['iqm']:.2f} [{row['low']:.2f}, {row['high']:.2f}]")
        if row["excluded"]:
            lines.append(
                f"{name}: left out, as no expert better than random play is known: "
                + ", ".join(row["excluded"])
            )
    return lines
