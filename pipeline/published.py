"""JAT's published tables: its tasks with their reference scores, and what its agent scored.

``data/tasks.csv`` and ``data/published_jat.csv`` have one row a task (arXiv 2402.09844, appendix).
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

CORRECTIONS = {
    "atari-battlezone": {"random_mean": 2360.0},
    "atari-videopinball": {"random_mean": 16256.9},
    "atari-doubledunk": {"human_mean": -16.4},
    "atari-fishingderby": {"human_mean": -38.7},
    "atari-tennis": {"human_mean": -8.3},
}
"""Reference scores published with JAT that differ from their source (Mnih et al. 2015, Table 2;
Wang et al. 2016): a digit and four signs were lost. ``data/tasks.csv`` keeps the published ones."""


@dataclass(frozen=True)
class PublishedScore:
    """What the published agent scored on one task."""

    mean: float
    std: float
    normalised: float | None
    """By the published expert and random scores; ``None`` where they are too close."""


def _rows(name: str) -> Iterator[dict[str, str]]:
    text = (files("pipeline") / "data" / name).read_text(encoding="utf8")
    return csv.DictReader(text.splitlines())


@lru_cache
def table(domain: str, corrected: bool = True) -> tuple[dict[str, Any], ...]:
    """The published tasks of a domain, as keyword arguments of ``Task``.

    ``corrected`` replaces the reference scores that were misprinted.
    """
    rows = []
    for row in _rows("tasks.csv"):
        if row["domain"] != domain:
            continue
        scores = {
            key: float(row[key]) if row[key] else None
            for key in ("random_mean", "expert_mean", "expert_std", "human_mean")
        }
        names = {key: row[key] for key in ("domain", "title", "gymnasium_id", "envpool_id")}
        corrections = CORRECTIONS.get(row["task"], {}) if corrected else {}
        rows.append({"id": row["task"], **names, **scores, **corrections})
    return tuple(rows)


@lru_cache
def agent_scores() -> dict[str, PublishedScore]:
    """Task id -> the published agent's score."""
    return {
        row["task"]: PublishedScore(
            float(row["mean"]),
            float(row["std"]),
            float(row["normalised"]) if row["normalised"] else None,
        )
        for row in _rows("published_jat.csv")
    }
