"""Stage: one page and one table that show what all the stages made.

``artifacts/report/index.html`` needs no other file and no network. What has not run is shown as
such: the report can be made at any time.
"""

import argparse
import base64
import io
import math
import sys
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

from pipeline import paths
from pipeline.domains import CORPUS_DOMAINS, get_domain, stage_of
from pipeline.errors import plain
from pipeline.params import Params
from pipeline.quantities import quantity
from pipeline.shards import read_rows
from pipeline.stage import run_stage, write_atomic
from pipeline.tasks import get_task
from trainer.reporting.figures import Level, Row, Series, bars, line_chart, short
from trainer.reporting.results import CorpusResult, Results, TaskResult, load_results

PAGE = paths.REPORT / "index.html"


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Write the page, print the table and the path of the page."""
    results = load_results(params)
    write_atomic(PAGE, page(params, results))
    print_table(results)
    print(f"report: {PAGE.resolve()}")


def page(params: Params, results: Results) -> str:
    """The whole page."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(number=number, count=count, size=size)
    template = environment.from_string(
        (files("trainer") / "reporting" / "report.html").read_text(encoding="utf8")
    )
    return template.render(
        profile=params.profile,
        seed=params.seed,
        tiles=tiles(results),
        missing=results.missing,
        aggregates=aggregate_bars(results),
        groups=[group(params, results, name) for name in results.by_domain],
        curves=expert_curves(results.tasks),
        losses=loss_curves(results),
        corpora=[corpus_card(corpus) for corpus in results.corpora],
        frames=screens(results.tasks),
        sheets=[
            {"title": corpus.name, "png": encode(corpus.samples)}
            for corpus in results.corpora
            if corpus.samples
        ],
    )


def tiles(results: Results) -> list[dict[str, str]]:
    """The figures at the top of the page; those of stages that have not run are left out."""
    collected = [task.episodes for task in results.tasks if task.episodes]
    verdicts = [task.expert["verdict"] for task in results.tasks if task.expert]
    found = [("tasks and corpora", str(len(results.tasks) + len(results.corpora)))]
    if verdicts:
        found.append(("experts pass the gate", f"{verdicts.count('expert')} of {len(verdicts)}"))
    if collected:
        found.append(("episodes", count(sum(totals["rows"] for totals in collected))))
        found.append(("agent steps", count(sum(totals["steps"] for totals in collected))))
    if results.dataset:
        found.append(("dataset", size(results.dataset["bytes"])))
    if results.training:
        found.append(("parameters of JAT", count(results.training["parameters"])))
        found.append(("optimizer steps", count(results.training["steps"])))
    return [{"name": name, "value": value} for name, value in found]


def group(params: Params, results: Results, name: str) -> dict[str, Any]:
    """One domain: its table and its bars."""
    tasks = results.by_domain[name]
    source = params.domain(name).expert.source_of
    return {
        "name": name,
        "title": get_domain(name).title,
        "colour": colour(name),
        "tasks": [
            {
                **vars(task),
                "source": source(task.id),
                "by_ours": task.jat["normalised"] if task.jat else None,
                "by_the_papers": task.jat["published"]["normalised"] if task.jat else None,
            }
            for task in tasks
        ],
        "by_the_papers": [task.title for task in tasks if task.by_the_papers],
        "bars": bars([task_row(task) for task in tasks]),
    }


def task_row(task: TaskResult) -> Row:
    """A task's normalised score beside the published one."""
    score = task.normalised
    return {
        "label": task.title,
        "value": score.get("normalised"),
        "low": score.get("normalised_low"),
        "high": score.get("normalised_high"),
        "mark": task.published_jat.normalised if task.published_jat else None,
        "colour": colour(task.domain),
    }


def aggregate_bars(results: Results) -> list[Row]:
    """The domains of the profile beside the published aggregates."""
    rows = []
    for name in results.by_domain:
        found, domain = results.aggregates.get(name, {}), get_domain(name)
        rows.append(
            {
                "label": domain.title,
                "value": found.get("iqm"),
                "low": found.get("low"),
                "high": found.get("high"),
                "mark": domain.published_iqm,
                "colour": colour(name),
            }
        )
    return bars(rows)


def expert_curves(tasks: Iterable[TaskResult]) -> list[dict[str, Any]]:
    """A learning curve for each expert that was trained."""
    charts = []
    for task in tasks:
        if not task.curve:
            continue
        levels = []
        if task.random is not None:
            levels.append(Level(f"random {short(task.random)}", task.random))
        if task.published_expert is not None:
            levels.append(Level(f"published {short(task.published_expert)}", task.published_expert))
        line = Series("return", task.curve, colour(task.domain))
        svg = line_chart(task.title, [line], levels, x_name="steps")
        charts.append({"title": task.title, "svg": svg})
    return charts


def loss_curves(results: Results) -> list[dict[str, Any]]:
    """JAT's loss over all domains, then that of each."""
    charts = []
    for name, points in results.losses.items():
        domain = name.partition("_")[2]
        title = get_domain(domain).title if domain else "All domains"
        line = Series("loss", points, colour(domain) if domain else "accent")
        svg = line_chart(title, [line], x_name="steps", logarithmic=True)
        charts.append({"title": title, "svg": svg})
    return charts


def corpus_card(corpus: CorpusResult) -> dict[str, Any]:
    """A corpus with a bar for each reason of removal."""
    rows = [
        {
            "label": reason.replace("_", " "),
            "value": removed / max(corpus.read, 1),
            "colour": corpus.domain,
            "number": count(removed),
            "text": f"{removed / max(corpus.read, 1):.1%}",
            "left": 0,
            "width": round(100 * removed / max(1, *corpus.dropped.values()), 2),
            "low": None,
            "mark": None,
            "one": None,
        }
        for reason, removed in corpus.dropped.items()
    ]
    unit = "pictures" if corpus.samples else "documents"
    return {**vars(corpus), "unit": unit, "bars": rows}


def colour(name: str) -> str:
    """The page's colour of a domain; those of brought environments share one."""
    return name if name in CORPUS_DOMAINS else stage_of(name)


def screens(tasks: Iterable[TaskResult]) -> list[dict[str, str]]:
    """The middle frame of the first collected episode of each task whose agent sees pictures."""
    from PIL import Image

    pictures = []
    for task in tasks:
        known = get_task(task.id)
        shards = sorted(paths.episodes_folder(known).glob("*.parquet"))
        if task.episodes and shards and known.modality.observation == "image":
            stack = next(read_rows(shards[0], ["frames"]))["frames"]
            buffer = io.BytesIO()
            Image.fromarray(stack[len(stack) // 2]).save(buffer, "PNG")
            pictures.append({"title": task.title, "png": encode(buffer.getvalue())})
    return pictures


def encode(png: bytes) -> str:
    """Base64, as a page embeds it."""
    return base64.b64encode(png).decode()


def number(value: float, digits: int | None = None) -> str:
    """A score: three significant digits below 100, thousands apart above."""
    if not math.isfinite(value):
        return "–"
    if digits is not None:
        return f"{value:.{digits}f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def count(value: float) -> str:
    """How many: exact below 100,000."""
    return f"{value:,.0f}" if value < 100_000 else short(value)


def size(value: float) -> str:
    """Bytes with a decimal prefix."""
    return quantity(value, "B")


def print_table(results: Results) -> None:
    """The same figures on the terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Experts and JAT", title_justify="left", header_style="bold")
    table.add_column("task", no_wrap=True)
    for heading in (
        "random",
        "expert",
        "gate",
        "episodes",
        "disk",
        "JAT",
        "of expert",
        "of paper's",
        "paper",
    ):
        table.add_column(heading, justify="right")
    for tasks in results.by_domain.values():
        for task in tasks:
            table.add_row(*table_cells(task), end_section=task is tasks[-1])
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for row in aggregate_bars(results):
        label = escape(plain(row["label"]))
        console.print(f"{label:12} IQM {row['number']:>5}   {row['text']}", highlight=False)
    for line in results.missing:
        console.print(f"[yellow]{line}[/]", highlight=False)


def table_cells(task: TaskResult) -> list[str]:
    """One row of the terminal's table."""
    from rich.markup import escape

    expert, episodes, jat, paper = task.expert, task.episodes, task.jat, task.published_jat
    score = jat["normalised"] if jat else None
    by_published = jat["published"]["normalised"] if jat else None
    colours = {"expert": "green", "weak": "yellow", "failed": "red"}
    verdict = (
        f"[{colours.get(expert['verdict'], 'white')}]{escape(plain(expert['verdict']))}[/]"
        if expert
        else "–"
    )
    published = paper.normalised if paper else None
    return [
        escape(plain(task.id)),
        "–" if task.random is None else number(task.random),
        number(expert["mean"]) if expert else "–",
        verdict,
        count(episodes["rows"]) if episodes else "not run",
        size(episodes["bytes"]) if episodes else "–",
        number(jat["mean"]) if jat else "not run",
        "–" if score is None else number(score, 2),
        "–" if by_published is None else number(by_published, 2),
        "–" if published is None else number(published, 2),
    ]


if __name__ == "__main__":
    run_stage(
        main, "Show everything that was made on one page.", output=lambda arguments: paths.REPORT
    )
