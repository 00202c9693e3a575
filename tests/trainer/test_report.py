import argparse
import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline import paths, schema
from pipeline.domains import PUBLISHED_DOMAINS
from pipeline.domains.atari import MODALITY
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.published import agent_scores
from pipeline.shards import write_shard
from pipeline.stage import write_atomic, write_json
from pipeline.tasks import all_tasks, get_task
from pipeline.types import Episode
from trainer import report
from trainer.reporting.figures import Series, bars, decades, line_chart, nice_ticks, short
from trainer.reporting.results import load_results

PARAMS = Params.model_validate(
    {
        "profile": "test <b>",
        "mujoco": {
            "tasks": ["mujoco-pendulum", "mujoco-reacher"],
            "collect": {"episodes": 4},
        },
        "metaworld": {"tasks": ["metaworld-reach"], "collect": {"episodes": 4}},
        "babyai": {
            "tasks": ["babyai-go-to-obj"],
            "expert": {"source": "bot"},
            "collect": {"episodes": 4},
        },
        "atari": {"tasks": ["atari-pong"], "collect": {"steps": 100}},
        "text": [{"name": "python-docs"}],
        "vision": [
            {"name": "grid-captions", "source": "grids:captions", "train": 10, "test": 2}
        ],
    }
)  # fmt: skip


def table(header: list[str], rows: list[list]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def reference(score: float | None) -> dict:
    ends = (None, None) if score is None else (score - 0.1, score + 0.1)
    return {"normalised": score, "normalised_low": ends[0], "normalised_high": ends[1]}


def run_everything() -> None:
    """Write what the stages write, into the working directory."""
    rng = np.random.default_rng(0)
    write_json(
        paths.RANDOM_SCORES,
        {task: {"mean": 1.5, "std": 1.0, "episodes": 10, "steps": 99} for task in PARAMS.tasks},
    )
    scores = {}
    for k, id in enumerate(PARAMS.tasks):
        task = get_task(id)
        if task.domain != "babyai":
            verdict = ("expert", "weak", "failed")[k % 3]
            write_json(
                paths.expert_folder(task) / "score.json",
                {"mean": 123.4, "std": 5.6, "episodes": 20, "success": None, "verdict": verdict,
                 "normalised": 0.9},
            )  # fmt: skip
            curve = [[s, s / 100, float(s) ** 0.5 + rng.normal()] for s in range(1000, 30000, 1000)]
            text = table(["steps", "seconds", "return"], curve)
            write_atomic(paths.expert_folder(task) / "curve.csv", text)
        write_json(
            paths.episodes_folder(task) / "manifest.json",
            {
                "totals": {"rows": 40, "steps": 4000, "bytes": 1_234_567},
                "dropped": {"gave up": 2},
                "returns": {"mean": 0.917},
                "files": [],
            },
        )
        ours = 0.8 - 0.1 * k
        scores[id] = {
            "domain": task.domain, "episodes": 20, "mean": 98.7, "std": 30.0,
            "success": 0.75 if task.domain == "metaworld" else None,
            **reference(None if task.domain == "babyai" else ours),
            "published": reference(0.654),
        }  # fmt: skip
    frames = rng.integers(0, 255, (4, 84, 84), np.uint8)
    episode = Episode(
        "atari-pong", {"frames": frames}, np.zeros(3, np.int64), np.zeros(3, np.float32),
        True, False, 0, 0,
    )  # fmt: skip
    write_shard(
        paths.episodes_folder(get_task("atari-pong")) / "shard-00000.parquet",
        schema.arrow_schema(MODALITY),
        [schema.to_table(MODALITY, [episode], "x", "y")],
    )
    found = {"tasks": ["x"], "excluded": [], "iqm": 0.5, "low": 0.4, "high": 0.6}
    domains: dict = {name: {**found, "published": found} for name in PUBLISHED_DOMAINS}
    domains["babyai"] = {"tasks": [], "excluded": ["babyai-go-to-obj"], "published": found}
    corpora = {"python-docs": {"perplexity": 88.8, "accuracy": 0.3, "tokens": 9, "loss": 4.5}}
    evaluation = {"tasks": scores, "domains": domains, "corpora": corpora}
    write_json(paths.EVALUATION / "scores.json", evaluation)
    text_report = {
        "documents": {"in": 1000, "kept": 700},
        "bytes": {"in": 10_000, "kept": 7_000},
        "dropped": {"too_short": 100, "near_duplicate": 200},
    }
    write_json(paths.corpus_folder("text", "python-docs") / "report.json", text_report)
    split = {"images": 10, "image_bytes": 5000, "dropped": {"no image": 3}, "files": {}}
    vision = paths.corpus_folder("vision", "grid-captions")
    write_json(vision / "report.json", {"train": split, "test": split})
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (90, 160, 3), np.uint8)).save(buffer, "PNG")
    write_atomic(vision / "samples.png", buffer.getvalue())
    write_json(paths.METRICS / "dataset.json", {"bytes": 5_000_000, "rows": 100, "steps": 1})
    write_json(paths.METRICS / "jat.json", {"steps": 1000, "parameters": 2_400_000})
    losses = [[s, 5 * 0.99**s, 1e-3, 3 * 0.98**s, ""] for s in range(20, 400, 20)]
    header = ["step", "loss", "learning_rate", "loss_mujoco", "loss_atari"]
    write_atomic(paths.JAT / "curve.csv", table(header, losses))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_page() -> str:
    report.main(PARAMS, argparse.Namespace())
    return report.PAGE.read_text(encoding="utf8")


def test_everything_that_ran_is_on_the_page(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_everything()
    page = make_page()
    for text in ("Pendulum", "123", "± 5.6", "1.23 MB", "weak", "python-docs", "0.65", "0.917"):
        assert text in page
    for text in ("near duplicate", "perplexity 88.8", "By the paper’s expert", "75 % succeed"):
        assert text in page
    assert "not run" not in page.lower()
    assert page.count("<svg") == 4 + 2  # the trained experts; the losses that have points
    assert page.count("data:image/png;base64,") == 2  # a game's frame, a corpus's samples
    printed = capsys.readouterr().out
    assert "mujoco-pendulum" in printed
    assert printed.rstrip().endswith(str(report.PAGE))


def test_what_has_not_run_is_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = make_page()
    assert "JAT&#39;s evaluation: not run" in page
    assert "experts: not run" in page
    assert "JAT's training: not run" in capsys.readouterr().out


def test_a_part_that_has_not_run_is_counted(project: Path) -> None:
    run_everything()
    (paths.expert_folder(get_task("atari-pong")) / "score.json").unlink()
    assert load_results(PARAMS).missing == ["experts: 3 of 4"]


def test_the_page_asks_the_network_for_nothing(project: Path) -> None:
    run_everything()
    page = make_page()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page)
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert not re.search(r"https?://|<script|@import", page)


def test_names_from_outside_are_escaped(project: Path) -> None:
    page = make_page()
    assert "test &lt;b&gt;" in page
    assert "test <b>" not in page


@pytest.mark.parametrize(
    "path", [paths.METRICS / "jat.json", paths.EVALUATION / "scores.json", paths.RANDOM_SCORES]
)
def test_a_broken_input_is_one_line(project: Path, path: Path) -> None:
    run_everything()
    path.write_text("{")
    with pytest.raises(UserError, match=path.name):
        make_page()


def test_a_broken_curve_is_one_line(project: Path) -> None:
    run_everything()
    (paths.JAT / "curve.csv").write_text("step,loss\n20,much\n")
    with pytest.raises(UserError, match=r"curve\.csv"):
        make_page()


def test_the_papers_expert_stands_in_where_there_is_no_other(project: Path) -> None:
    run_everything()
    results = load_results(PARAMS)
    rows = {task.id: report.task_row(task) for task in results.tasks}
    assert (rows["mujoco-pendulum"]["value"], rows["mujoco-pendulum"]["high"]) == (0.8, 0.9)
    assert rows["babyai-go-to-obj"]["value"] == 0.654
    assert [task.id for task in results.tasks if task.by_the_papers] == ["babyai-go-to-obj"]
    assert results.aggregates["babyai"]["iqm"] == 0.5


def test_bars_stay_on_the_page() -> None:
    row = {"label": "x", "colour": "atari"}
    rows = [
        {**row, "value": 7.0, "low": -9.0, "high": 11.0, "mark": 0.5},
        {**row, "value": -3.0, "low": None, "high": None, "mark": None},
        {**row, "value": None, "low": None, "high": None, "mark": 1.0},
    ]
    for bar in bars(rows):
        assert 0 <= bar["left"] <= bar["left"] + bar["width"] <= 100
        assert bar["low"] is None or 0 <= bar["low"] <= bar["low"] + bar["span"] <= 100


def test_published_scores_are_complete() -> None:
    assert set(agent_scores()) == set(all_tasks())
    bowling = agent_scores()["atari-bowling"]
    assert bowling.normalised is None


@given(st.floats(-1e9, 1e9), st.floats(1e-3, 1e9))
def test_ticks_lie_inside(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    slack = 1e-6 * (span + abs(low))
    assert len(ticks) <= 6
    assert all(low - slack <= tick <= low + span + slack for tick in ticks)


def test_ticks_are_round() -> None:
    assert nice_ticks(0, 1000) == [0, 500, 1000]
    assert nice_ticks(3, 3) == [3]
    assert decades(0.02, 30) == [0.1, 1, 10]
    assert decades(2, 7) == [2, 4, 6]
    assert [short(v) for v in (1234567, 0.00123, 1500, -21)] == ["1.23M", "0.00123", "1.5k", "-21"]


points = st.lists(
    st.tuples(st.floats(0, 1e9), st.floats(-1e6, 1e6)), min_size=1, max_size=20
)  # fmt: skip


@given(points, st.booleans())
def test_lines_stay_inside_their_chart(line: list[tuple[float, float]], log: bool) -> None:
    svg = line_chart("t", [Series("s", line)], x_name="steps", logarithmic=log)
    drawn = re.search(r'points="([^"]*)"', svg)
    assert drawn
    for pair in drawn.group(1).split():
        x, y = map(float, pair.split(","))
        assert 0 <= x <= 320
        assert 0 <= y <= 190
