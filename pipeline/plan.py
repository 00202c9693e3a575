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

from pipeline.params import Params
from pipeline.quantities import duration, quantity
from pipeline.settings import Jat, TextCorpus, VisionCorpus
from pipeline.stage import run_stage
from pipeline.tasks import get_task

SIZES = {"laptop": (192, 4), "small": (768, 12), "medium": (1024, 24), "large": (1536, 24)}
"""Preset -> hidden size and layers."""
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
        for name in quantities:
            if name in self.rows:
                self.used[name] = self.rows[name]
                return float(self.rows[name]["value"])
        return math.nan


def stage_costs(params: Params, measured: Measurements) -> list[Cost]:
    """The cost of every stage of every domain that the profile has tasks in."""
    costs = []
    for name in params.rl_domains:
        if params.domain(name).tasks:
            costs += [
                expert_cost(params, name, measured),
                collection_cost(params, name, measured),
                evaluation_cost(params, name, measured),
            ]
    costs += [corpus_cost("text", corpus, measured) for corpus in params.text]
    costs += [corpus_cost("vision", corpus, measured) for corpus in params.vision]
    return [*costs, jat_cost(params, measured)]


def episode_steps(task: str, name: str, measured: Measurements) -> float:
    """Steps of one episode of a task; its own measurement comes before its domain's."""
    return measured.get(f"{task}.episode", f"{name}.episode")


def playing_hours(
    tasks: Iterable[str], name: str, episodes: float, measured: Measurements
) -> float:
    """Core-hours in which experts play so many episodes of each task."""
    return sum(
        episodes
        * episode_steps(task, name, measured)
        / measured.get(f"{task}.play", f"{name}.play")
        / HOUR
        for task in tasks
    )


def expert_cost(params: Params, name: str, measured: Measurements) -> Cost:
    """Training of the experts with source ``train``, and the gate's episodes of all but bots."""
    domain = params.domain(name)
    expert = domain.expert
    trained = [task for task in domain.tasks if expert.source_of(task) == "train"]
    scored = [task for task in domain.tasks if expert.source_of(task) != "bot"]
    steps = sum(expert.steps_of(task) for task in trained)
    training = steps / measured.get(f"{name}.train") / HOUR if trained else 0.0
    # The networks of those that see no pictures are too small for one.
    on_gpu = any(get_task(task).modality.observation == "image" for task in trained)
    return Cost(
        name,
        "experts",
        len(trained),
        expert.gate_episodes * len(scored),
        steps,
        cpu_hours=training + playing_hours(scored, name, expert.gate_episodes, measured),
        gpu_hours=steps / measured.get(f"{name}.train_gpu") / HOUR if on_gpu else 0.0,
    )


def collection_cost(params: Params, name: str, measured: Measurements) -> Cost:
    """The experts' episodes."""
    domain = params.domain(name)
    episodes = steps = size = hours = 0.0
    for task in domain.tasks:
        length = episode_steps(task, name, measured)
        wanted = domain.collect.episodes or (domain.collect.steps or 0) / length
        episodes += wanted
        steps += wanted * length
        size += wanted * length * measured.get(f"{task}.size", f"{name}.size")
        hours += playing_hours([task], name, wanted, measured)
    return Cost(name, "collection", len(domain.tasks), episodes, steps, size, hours)


def corpus_cost(name: str, corpus: TextCorpus | VisionCorpus, measured: Measurements) -> Cost:
    """One corpus: what is read of its source, and the share of it that is kept."""
    kind = f"{name}.{corpus.source.partition(':')[0]}"
    if isinstance(corpus, VisionCorpus):
        pictures = float(corpus.train + corpus.test)
        size = pictures * measured.get(f"{kind}.size")
        hours = pictures / measured.get(f"{kind}.rate") / HOUR
        return Cost(name, f"corpus {corpus.name}", 1, pictures, bytes=size, cpu_hours=hours)
    there = measured.get(f"{corpus.name}.documents", f"{kind}.documents")
    read = there if corpus.limit is None else min(corpus.limit, there)
    raw = read * measured.get(f"{corpus.name}.raw", f"{kind}.raw")
    kept = measured.get(f"{corpus.name}.kept", f"{kind}.kept")
    return Cost(
        name,
        f"corpus {corpus.name}",
        1,
        read * kept,
        bytes=raw * kept * measured.get("text.ratio"),
        cpu_hours=raw / measured.get("text.rate") / HOUR,
    )


def weights(jat: Jat) -> int:
    """Weights of the transformer that every token passes: 12 h² a layer."""
    hidden, layers = SIZES[jat.preset]
    hidden = jat.model.get("hidden_size", hidden)
    return 12 * hidden**2 * jat.model.get("num_layers", layers)


def jat_cost(params: Params, measured: Measurements) -> Cost:
    """JAT's training: 6 floating-point operations a weight and token (Kaplan et al. 2020)."""
    jat = params.jat
    draws = {name: float(len(params.domain(name).tasks)) for name in params.rl_domains}
    draws |= {
        "text": CORPUS_WEIGHT * len(params.text),
        "vision": CORPUS_WEIGHT * len(params.vision),
    }
    tokens = sum(
        draws[name] * jat.domain_batch_tokens.get(name, jat.batch_tokens) for name in draws
    ) / max(1, sum(draws.values()))
    # The laptop's network is too small to keep a GPU busy.
    gpu = math.inf if jat.preset == "laptop" else measured.get("jat.train_gpu")
    operations = 6 * weights(jat) * jat.steps * jat.accumulation * tokens
    return Cost(
        "jat",
        "training",
        int(len(params.tasks) + len(params.text) + len(params.vision)),
        steps=jat.steps,
        cpu_hours=operations / measured.get(f"jat.train.{jat.preset}", "jat.train.small") / HOUR,
        gpu_hours=operations / gpu / HOUR,
    )


def evaluation_cost(params: Params, name: str, measured: Measurements) -> Cost:
    """JAT's episodes: two tokens a step, each computed twice since windows are refilled."""
    tasks, preset = params.domain(name).tasks, params.jat.preset
    episodes = params.evaluation.episodes_of(name)
    steps = episodes * sum(episode_steps(task, name, measured) for task in tasks)
    operations = 2 * 2 * 2 * weights(params.jat) * steps
    acting = operations / measured.get(f"jat.act.{preset}", "jat.act.small") / HOUR
    return Cost(
        name,
        "evaluation",
        len(tasks),
        episodes * len(tasks),
        steps,
        cpu_hours=acting + playing_hours(tasks, name, episodes, measured),
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
    from rich.markup import escape
    from rich.table import Table

    title = escape(f"Profile '{params.profile}'")
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("domain")
    table.add_column("stage")
    for heading in ("tasks", "episodes", "steps", "disk", "CPU time", "or GPU time"):
        table.add_column(heading, justify="right")
    groups: dict[str, list[Cost]] = {}
    for cost in costs:
        groups.setdefault(cost.domain, []).append(cost)
    for name in groups:
        group = groups[name]
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
    console.print("\n[bold]Measured[/]")
    for (how, machine, day), rows in by_origin(measured.used.values()).items():
        values = ", ".join(
            f"{row['quantity']} {quantity(row['value'])} {row['unit']}" for row in rows
        )
        console.print(f"[bold]{how}[/] ({machine}, {day})", highlight=False)
        console.print(f"  {values}", style="dim", highlight=False)


def by_origin(rows: Iterable[dict[str, Any]]) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """(command, machine, date) -> the rows that come from it."""
    origins: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        origins.setdefault((row["command"], row["machine"], row["date"]), []).append(row)
    return origins


def cells(cost: Cost) -> list[str]:
    """One row of the table, after the domain."""
    return [
        cost.stage,
        *(quantity(value) for value in (cost.tasks, cost.episodes, cost.steps)),
        quantity(cost.bytes, "B"),
        duration(cost.cpu_hours),
        duration(cost.gpu_hours),
    ]


def footer(params: Params, costs: list[Cost]) -> str:
    """The profile in one sentence: time on its cores, with and without a GPU."""
    rest = [cost for cost in costs if not cost.gpu_hours]
    everything, beside = total(costs, "", ""), total(rest, "", "")
    text = f"About {duration(everything.cpu_hours / params.workers)} on {params.workers} cores"
    if everything.gpu_hours >= 1:
        text += (
            f" without a GPU; or {duration(everything.gpu_hours)} of one GPU and "
            f"{duration(beside.cpu_hours)} of one core"
        )
    return f"{text}."


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Print what the profile costs."""
    measured = Measurements.shipped()
    costs = stage_costs(params, measured)
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
