"""What a profile costs before it is run: episodes, bytes, CPU-hours and GPU-hours.

    python -m pipeline.plan --params params/paper.yaml

Every figure follows from the profile and from ``data/measurements.json``, which says what was
measured, where, when and how. A figure that was never measured is shown as "?".
"""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from pipeline.domains import DOMAINS, RL_DOMAINS
from pipeline.params import Jat, Params, TextCorpus, VisionCorpus
from pipeline.stage import run_stage

SIZES = {"laptop": (192, 4), "small": (768, 12), "medium": (1024, 24), "large": (1536, 24)}
"""Preset -> hidden size and layers."""
PUBLISHED_VOCABULARY = 50_257
CORPUS_WEIGHT = 10
"""How often a corpus is drawn for every time an environment is (jat_facts: training recipe)."""
HOUR = 3600.0


@dataclass(frozen=True)
class Cost:
    """What one stage takes in one domain; ``nan`` where nothing was measured."""

    domain: str
    stage: str
    tasks: int = 0
    episodes: float = 0
    """Episodes, documents or pictures."""
    steps: float = 0
    """Agent steps, or optimizer steps in JAT's training."""
    bytes: float = 0
    cpu_hours: float = 0
    """Core-hours, all work on CPUs."""
    gpu_hours: float = 0
    """Hours of one GPU, if it does this work instead; 0 where it would not."""


class Measurements:
    """The rows of ``data/measurements.json`` by quantity."""

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        self.rows = {row["quantity"]: row for row in rows}
        self.used: dict[str, dict[str, Any]] = {}
        """The rows that were asked for so far."""

    @classmethod
    def shipped(cls) -> "Measurements":
        """Those that come with the project."""
        text = (files("pipeline") / "data" / "measurements.json").read_text(encoding="utf8")
        return cls(json.loads(text))

    def get(self, *quantities: str) -> float:
        """The value of the first of these quantities that was measured, ``nan`` if none was."""
        for quantity in quantities:
            if quantity in self.rows:
                self.used[quantity] = self.rows[quantity]
                return float(self.rows[quantity]["value"])
        return math.nan


def plan(params: Params, measured: Measurements) -> list[Cost]:
    """The cost of every stage of every domain that the profile has tasks in."""
    costs = []
    for name in RL_DOMAINS:
        if params.domain(name).tasks:
            costs += [
                expert_cost(params, name, measured),
                collection_cost(params, name, measured),
                evaluation_cost(params, name, measured),
            ]
    costs += [corpus_cost("text", corpus, measured) for corpus in params.text]
    costs += [corpus_cost("vision", corpus, measured) for corpus in params.vision]
    return [*costs, jat_cost(params, measured)]


def episode_steps(tasks: Iterable[str], name: str, measured: Measurements) -> float:
    """Steps of one episode of each task, summed."""
    return sum(measured.get(f"{task}.episode", f"{name}.episode") for task in tasks)


def expert_cost(params: Params, name: str, measured: Measurements) -> Cost:
    """Training of the experts with source ``train``, and the gate's episodes of all."""
    domain = params.domain(name)
    expert = domain.expert
    trained = [task for task in domain.tasks if expert.source_of(task) == "train"]
    steps = sum(expert.steps_of(task) for task in trained)
    gate = expert.gate_episodes * episode_steps(domain.tasks, name, measured)
    playing = gate / measured.get(f"{name}.play") / HOUR
    training = steps / measured.get(f"{name}.train") / HOUR if trained else 0.0
    on_gpu = name == "atari" and trained  # the networks of the others are too small for one
    return Cost(
        name,
        "experts",
        len(trained),
        expert.gate_episodes * len(domain.tasks),
        steps,
        cpu_hours=training + playing,
        gpu_hours=steps / measured.get(f"{name}.train_gpu") / HOUR if on_gpu else 0.0,
    )


def collection_cost(params: Params, name: str, measured: Measurements) -> Cost:
    """The experts' episodes."""
    domain = params.domain(name)
    lengths = episode_steps(domain.tasks, name, measured)
    if domain.collect.episodes is not None:
        episodes = float(domain.collect.episodes * len(domain.tasks))
        steps = domain.collect.episodes * lengths
    else:
        steps = float((domain.collect.steps or 0) * len(domain.tasks))
        episodes = steps * len(domain.tasks) / lengths
    return Cost(
        name,
        "collection",
        len(domain.tasks),
        episodes,
        steps,
        steps * measured.get(f"{name}.size"),
        steps / measured.get(f"{name}.play") / HOUR,
    )


def corpus_cost(name: str, corpus: TextCorpus | VisionCorpus, measured: Measurements) -> Cost:
    """One corpus: what is read of its source, and the share of it that is kept."""
    kind = f"{name}.{corpus.source.partition(':')[0]}"
    if isinstance(corpus, TextCorpus):
        read = measured.get(f"{corpus.name}.documents", f"{kind}.documents")
        read = min(read, corpus.limit or math.inf) if not math.isnan(read) else corpus.limit or read
        kept = read * measured.get(f"{corpus.name}.kept", f"{kind}.kept")
    else:
        read = kept = float(corpus.train + corpus.test)
    return Cost(
        name,
        f"corpus {corpus.name}",
        1,
        kept,
        bytes=kept * measured.get(f"{corpus.name}.size", f"{kind}.size"),
        cpu_hours=read / measured.get(f"{kind}.read") / HOUR,
    )


def parameters(jat: Jat) -> int:
    """Weights that every token passes: 12 h² a layer and the vocabulary's head."""
    hidden, layers = SIZES[jat.preset]
    hidden = jat.model.get("hidden_size", hidden)
    layers = jat.model.get("num_layers", layers)
    vocabulary = jat.vocab_size if jat.tokenizer == "train" else PUBLISHED_VOCABULARY
    return 12 * hidden**2 * layers + hidden * vocabulary


def jat_cost(params: Params, measured: Measurements) -> Cost:
    """JAT's training: 6 floating-point operations a weight and token (Kaplan et al. 2020)."""
    jat = params.jat
    draws = {name: float(len(params.domain(name).tasks)) for name in RL_DOMAINS}
    draws |= {
        "text": CORPUS_WEIGHT * len(params.text),
        "vision": CORPUS_WEIGHT * len(params.vision),
    }
    tokens = sum(
        draws[name] * jat.domain_batch_tokens.get(name, jat.batch_tokens) for name in DOMAINS
    ) / sum(draws.values())
    operations = 6 * parameters(jat) * jat.steps * jat.accumulation * tokens
    return Cost(
        "jat",
        "training",
        int(len(params.tasks) + len(params.text) + len(params.vision)),
        steps=jat.steps,
        cpu_hours=operations / measured.get("jat.train") / HOUR,
        gpu_hours=operations / measured.get("jat.train_gpu") / HOUR,
    )


def evaluation_cost(params: Params, name: str, measured: Measurements) -> Cost:
    """JAT's episodes: two tokens a step, each computed twice since windows are refilled."""
    tasks = params.domain(name).tasks
    episodes = params.evaluation.domain_episodes.get(name, params.evaluation.episodes)
    steps = episodes * episode_steps(tasks, name, measured)
    operations = 2 * 2 * 2 * parameters(params.jat) * steps
    playing = steps / measured.get(f"{name}.play") / HOUR
    return Cost(
        name,
        "evaluation",
        len(tasks),
        episodes * len(tasks),
        steps,
        cpu_hours=playing + operations / measured.get("jat.act") / HOUR,
        gpu_hours=operations / measured.get("jat.act_gpu") / HOUR,
    )


def total(costs: Sequence[Cost], domain: str, stage: str) -> Cost:
    """The sum over stages; tasks are those of the largest stage, what is unknown counts 0."""
    added = {
        field: sum(0 if math.isnan(value := getattr(cost, field)) else value for cost in costs)
        for field in ("bytes", "cpu_hours", "gpu_hours")
    }
    return Cost(domain, stage, **added)


def show(params: Params, costs: list[Cost], measured: Measurements) -> None:
    """Print the plan and what it rests on."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Profile '{params.profile}'", title_justify="left", header_style="bold")
    table.add_column("domain")
    table.add_column("stage")
    for heading in ("tasks", "episodes", "steps", "disk", "CPU-hours", "or GPU-hours"):
        table.add_column(heading, justify="right")
    for name in dict.fromkeys(cost.domain for cost in costs):
        group = [cost for cost in costs if cost.domain == name]
        for k, cost in enumerate(group):
            table.add_row("" if k else name, *cells(cost), end_section=len(group) == k + 1 == 1)
        if len(group) > 1:
            table.add_row(
                "", *cells(total(group, name, "together")), style="bold", end_section=True
            )
    table.add_row("all", *cells(total(costs, "all", "")), style="bold")
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    console.print(footer(params, costs))
    sources = Table(title="Measured", title_justify="left", header_style="bold", box=None)
    for heading in ("quantity", "value", "unit", "machine", "date", "how"):
        sources.add_column(heading, justify="right" if heading == "value" else "left")
    for row in measured.used.values():
        sources.add_row(
            row["quantity"], quantity(row["value"]), row["unit"], row["machine"], row["date"],
            row["command"],
        )  # fmt: skip
    console.print(sources)


def cells(cost: Cost) -> list[str]:
    """One row of the table, after the domain."""
    return [
        cost.stage,
        *(quantity(value) for value in (cost.tasks, cost.episodes, cost.steps)),
        quantity(cost.bytes, "B"),
        quantity(cost.cpu_hours),
        quantity(cost.gpu_hours),
    ]


def footer(params: Params, costs: list[Cost]) -> str:
    """The profile in one sentence: time on its cores, with and without a GPU."""
    cpu = total(costs, "", "").cpu_hours
    rest = [cost for cost in costs if not cost.gpu_hours]
    gpu = total(costs, "", "").gpu_hours
    return (
        f"About {quantity(cpu / params.workers)} hours on {params.workers} cores without a GPU; "
        f"or {quantity(gpu)} hours of one GPU and {quantity(total(rest, '', '').cpu_hours)} "
        "CPU-hours beside it."
    )


def quantity(value: float, unit: str = "") -> str:
    """Three digits with a decimal prefix: 1234567 -> "1.23 M", 0 -> "–", nan -> "?"."""
    if math.isnan(value):
        return "?"
    if not value:
        return "–"
    for scale, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= scale:
            divisor = 1e3 if prefix == "k" else scale
            return f"{value / divisor:.3g} {prefix}{unit}"
    text = f"{value:.0f}" if value >= 100 or float(value).is_integer() else f"{value:.2g}"
    return f"{text} {unit}".strip()


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Print what the profile costs."""
    measured = Measurements.shipped()
    costs = plan(params, measured)
    if arguments.json:
        everything = [dataclasses.asdict(cost) for cost in [*costs, total(costs, "all", "")]]
        clean = [{k: None if v != v else v for k, v in row.items()} for row in everything]
        answer = {"costs": clean, "measurements": list(measured.used.values())}
        print(json.dumps({"profile": params.profile, **answer}, indent=2))
    else:
        show(params, costs, measured)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


if __name__ == "__main__":
    run_stage(main, "Show what a profile costs before it is run.", add_arguments)
