import json
import math
import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from pipeline.domains import PUBLISHED_DOMAINS
from pipeline.params import Params, load_params
from pipeline.plan import SIZES, Cost, Measurements, stage_costs, total, weights
from pipeline.quantities import quantity
from trainer.model.configuration_jat import PRESETS, JatConfig

ROOT = Path(__file__).parent.parent.parent
PROFILES = [ROOT / "params.yaml", ROOT / "params" / "paper.yaml"]


def measured(**values: float) -> Measurements:
    rows = [{"quantity": name.replace("__", "."), "value": v} for name, v in values.items()]
    return Measurements(rows)


def profile(**changes) -> Params:
    raw = {name: {"collect": {"episodes": 10}} for name in PUBLISHED_DOMAINS} | changes
    return Params.model_validate({"profile": "test", **raw})


def find(costs: list[Cost], domain: str, stage: str) -> Cost:
    return next(cost for cost in costs if (cost.domain, cost.stage) == (domain, stage))


def test_collection_follows_from_episodes_and_measurements() -> None:
    params = profile(
        mujoco={"tasks": ["mujoco-ant", "mujoco-reacher"], "collect": {"episodes": 10}}
    )
    rates = {"mujoco__episode": 1000, "mujoco-reacher__episode": 50, "mujoco__size": 100}
    costs = stage_costs(params, measured(**rates, mujoco__play=7))
    cost = find(costs, "mujoco", "collection")
    assert (cost.tasks, cost.episodes, cost.steps) == (2, 20, 10_500)
    assert cost.bytes == 1_050_000
    assert cost.cpu_hours == pytest.approx(10_500 / 7 / 3600)


def test_collection_by_steps() -> None:
    atari = {"tasks": ["atari-pong", "atari-freeway"], "collect": {"steps": 8000}}
    rates = measured(atari__episode=2000, atari__size=100, atari__play=100)
    cost = find(stage_costs(profile(atari=atari), rates), "atari", "collection")
    assert (cost.episodes, cost.steps) == (8, 16_000)


def test_only_trained_experts_are_trained() -> None:
    metaworld = {
        "tasks": ["metaworld-reach", "metaworld-push", "metaworld-soccer"],
        "expert": {
            "source": "scripted",
            "sources": {"metaworld-push": "train", "metaworld-soccer": "train"},
            "steps": 3_600,
            "task_steps": {"metaworld-push": 7_200},
            "gate_episodes": 1,
        },
        "collect": {"episodes": 10},
    }
    rates = measured(metaworld__episode=100, metaworld__play=math.inf, metaworld__train=1)
    cost = find(stage_costs(profile(metaworld=metaworld), rates), "metaworld", "experts")
    assert (cost.tasks, cost.steps, cost.cpu_hours, cost.gpu_hours) == (2, 10_800, 3, 0)


def test_what_was_not_measured_is_unknown_not_zero() -> None:
    mujoco = {"tasks": ["mujoco-ant"], "collect": {"episodes": 10}}
    cost = find(stage_costs(profile(mujoco=mujoco), measured()), "mujoco", "collection")
    assert math.isnan(cost.bytes)
    assert math.isnan(cost.cpu_hours)
    assert quantity(cost.bytes) == "?"


def test_the_total_is_the_sum() -> None:
    costs = [Cost("a", "x", bytes=1, cpu_hours=2), Cost("b", "y", bytes=10, cpu_hours=math.nan)]
    together = total(costs, "all", "")
    assert (together.bytes, together.cpu_hours) == (11, 2)


def test_network_sizes_are_the_trainers() -> None:
    for name, (hidden, layers) in SIZES.items():
        config = JatConfig.preset(name)
        assert (config.hidden_size, config.num_layers) == (hidden, layers)
    assert set(SIZES) == set(PRESETS)
    published = profile(jat={"preset": "small", "tokenizer": "gpt2"}).jat
    assert weights(published) == pytest.approx(85e6, rel=0.01)


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_has_a_complete_plan(path: Path) -> None:
    costs = stage_costs(load_params(path), Measurements.shipped())
    assert {cost.domain for cost in costs} >= {*PUBLISHED_DOMAINS, "jat"}
    unknown = [cost for cost in costs if math.isnan(cost.cpu_hours) or math.isnan(cost.bytes)]
    assert unknown == []


def test_every_measurement_says_where_it_comes_from() -> None:
    rows = Measurements.shipped().rows
    for row in rows.values():
        assert set(row) == {"quantity", "value", "unit", "machine", "date", "command"}
        assert float(row["value"]) > 0
        assert date.fromisoformat(row["date"])
        assert all(row[key] for key in ("unit", "machine", "command"))


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pipeline.plan", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ, check=False
    )


def test_the_command(tmp_path: Path) -> None:
    done = run("--json", "--params", str(PROFILES[1]))
    answer = json.loads(done.stdout)
    assert answer["profile"] == "paper"
    atari = next(c for c in answer["costs"] if (c["domain"], c["stage"]) == ("atari", "experts"))
    assert atari["steps"] == 57 * 500_000_000
    assert {row["quantity"] for row in answer["measurements"]} >= {"atari.train", "mujoco-ant.play"}
    shown = run("--params", str(PROFILES[0]))
    assert shown.returncode == 0
    assert re.search(r"all +│", shown.stdout)
    assert "python -m benchmarks.rates" in shown.stdout
    refused = run("--params", str(tmp_path / "none.yaml"))
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: no parameter file")
    assert refused.stderr.count("\n") == 1
