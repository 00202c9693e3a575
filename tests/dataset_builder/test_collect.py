from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from stages import contents, play_at_random, run_collect

from dataset_builder.collect import shard_slots
from pipeline import closure
from pipeline.errors import UserError
from pipeline.manifest import fingerprint
from pipeline.settings import Collect
from pipeline.shards import read_rows
from pipeline.stage import log, read_json, write_json

PENDULUM = Path("artifacts/episodes/mujoco/mujoco-pendulum")
EXPERT = Path("artifacts/experts/mujoco/mujoco-pendulum/score.json")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project whose experts play at random."""
    monkeypatch.chdir(tmp_path)
    play_at_random(monkeypatch)
    return tmp_path


def rows_of(folder: Path) -> list[dict]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in read_rows(path)]


@examples(deadline=None)
@given(st.integers(1, 500), st.integers(1, 20), st.integers(1, 7))
def test_a_budget_of_episodes_is_met_and_not_much_exceeded(
    episodes: int, slots: int, quota: int
) -> None:
    shards = shard_slots(Collect(episodes=episodes, slots=slots, episodes_per_slot=quota), [])
    assert episodes <= sum(shards) * quota < episodes + quota
    assert all(size == slots for size in shards[:-1])
    assert 1 <= shards[-1] <= slots


@examples(deadline=None)
@given(st.integers(1, 500), st.lists(st.integers(1, 90), min_size=500, max_size=500))
def test_a_budget_of_steps_is_met_by_the_first_shards(steps: int, played: list[int]) -> None:
    budget, made = Collect(steps=steps, slots=2), 0
    while made < len(wanted := shard_slots(budget, played[:made])):
        made = len(wanted)
    enough = next(k for k, total in enumerate(accumulate(played), 1) if total >= steps)
    assert len(wanted) == enough <= made


def test_a_budget_of_steps_that_cannot_be_met_is_told() -> None:
    with pytest.raises(UserError, match="gave up every episode"):
        shard_slots(Collect(steps=10), [0, 0])


def test_episodes_manifest_and_metrics_agree() -> None:
    manifest = run_collect("mujoco")["mujoco-pendulum"]
    metrics, rows = read_json("metrics/collect_mujoco.json"), rows_of(PENDULUM)
    returns = [row["rewards"].sum() for row in rows]
    assert metrics["episodes"] == manifest["totals"]["rows"] == len(rows) == 12
    assert metrics["steps"] == sum(len(row["rewards"]) for row in rows)
    assert metrics["tasks"] == 1
    assert metrics["skipped"] == 0
    assert manifest["returns"]["mean"] == pytest.approx(np.mean(returns))
    assert manifest["returns"]["std"] == pytest.approx(np.std(returns))
    assert [entry["rows"] for entry in manifest["files"]] == [6, 6]
    assert {row["policy_checksum"] for row in rows} == {manifest["decides"]["policy_checksum"]}
    keys = {(row["seed"], row["reset_index"]) for row in rows}
    seeds = [seed for entry in manifest["files"] for seed in entry["seeds"]]
    assert keys == {(seed, index) for seed in seeds for index in (0, 1)}


def test_whole_shards_until_the_steps_are_reached() -> None:
    run_collect("mujoco", collect={"steps": 150, "slots": 3, "episodes_per_slot": 2})
    steps = [entry["steps"] for entry in read_json(PENDULUM / "manifest.json")["files"]]
    assert sum(steps[:-1]) < 150 <= sum(steps)
    shards = sorted(path.name for path in PENDULUM.glob("*.parquet"))
    assert shards == [f"shard-{k:05d}.parquet" for k in range(len(steps))]


def test_a_second_run_changes_nothing() -> None:
    run_collect("mujoco")
    before = {path: path.stat().st_mtime_ns for path in PENDULUM.glob("shard-*")}
    assert before
    run_collect("mujoco")
    assert {path: path.stat().st_mtime_ns for path in PENDULUM.glob("shard-*")} == before


def test_a_larger_budget_keeps_the_shards_and_a_smaller_one_drops_the_surplus() -> None:
    run_collect("mujoco")
    before = contents(PENDULUM)
    run_collect("mujoco", collect={"episodes": 24, "slots": 3, "episodes_per_slot": 2})
    after = contents(PENDULUM)
    assert len(after) == len(before) + 4
    assert all(after[name] == before[name] for name in before if name != "manifest.json")
    run_collect("mujoco")
    assert contents(PENDULUM) == before


def test_what_decides_the_episodes_makes_them_anew(project: Path) -> None:
    run_collect("mujoco")
    before = contents(PENDULUM)
    (PENDULUM / ".shard-00000.parquet.1.tmp").write_bytes(b"left by a killed run")
    run_collect("mujoco", env={"max_episode_steps": 3})
    after = contents(PENDULUM)
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in before)
    assert max(len(row["rewards"]) for row in rows_of(PENDULUM)) == 3


def flip_a_byte(path: Path) -> None:
    """Another content of the same length."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b""), flip_a_byte]
)
def test_a_lost_or_cut_shard_is_made_again(damage) -> None:
    run_collect("mujoco")
    before = contents(PENDULUM)
    damage(PENDULUM / "shard-00001.parquet")
    run_collect("mujoco")
    assert contents(PENDULUM) == before


def test_other_code_makes_the_episodes_anew_and_says_so(monkeypatch, caplog) -> None:
    here = Path.cwd()
    run_collect("mujoco")
    before = contents(PENDULUM)
    real = closure.digests

    def digests(*roots: closure.Root, **more) -> dict[str, str]:
        return {**real(*roots, **more), "pipeline.rollout": "another"}

    monkeypatch.setattr(closure, "digests", digests)
    caplog.set_level("INFO", logger="jat")
    monkeypatch.setattr(log, "propagate", True)
    run_collect("mujoco")
    assert "collected again, as this changed: code pipeline.rollout" in caplog.text
    after = contents(PENDULUM)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"manifest.json", "shard-00000.json", "shard-00001.json"}
    monkeypatch.undo()
    monkeypatch.chdir(here)
    play_at_random(monkeypatch)
    times = {path: path.stat().st_mtime_ns for path in PENDULUM.glob("*.parquet")}
    run_collect("mujoco", accept_code=True)
    assert {path: path.stat().st_mtime_ns for path in PENDULUM.glob("*.parquet")} == times
    assert contents(PENDULUM) == before
    run_collect("mujoco")
    assert {path: path.stat().st_mtime_ns for path in PENDULUM.glob("*.parquet")} == times


def test_episodes_from_before_code_was_recorded_are_taken_over() -> None:
    run_collect("mujoco")
    before = contents(PENDULUM)
    made = read_json(PENDULUM / "manifest.json")["decides"]
    told = {key: made[key] for key in made if key not in ("code", "definition")}
    for path in PENDULUM.glob("shard-*.json"):
        write_json(path, {**read_json(path), "fingerprint": fingerprint(told)})
    times = {path: path.stat().st_mtime_ns for path in PENDULUM.glob("*.parquet")}
    run_collect("mujoco")
    assert {path: path.stat().st_mtime_ns for path in PENDULUM.glob("*.parquet")} == times
    assert contents(PENDULUM) == before


def test_given_up_episodes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    play_at_random(monkeypatch, "random_policy:load_quitter")
    manifest = run_collect("mujoco")["mujoco-pendulum"]
    assert read_json("metrics/collect_mujoco.json")["dropped"] == 2
    assert manifest["dropped"] == {"lost heart": 2}
    assert manifest["totals"]["rows"] == 10
    first = manifest["files"][0]["seeds"][0]
    assert [row["reset_index"] for row in rows_of(PENDULUM) if row["seed"] == first] == [0]


def test_weak_experts_are_left_out_on_request() -> None:
    write_json(EXPERT, {"verdict": "weak", "mean": 1.0})
    manifests = run_collect("mujoco", expert={"source": "train", "keep_weak": True})
    assert manifests["mujoco-pendulum"]["expert"]["verdict"] == "weak"
    assert rows_of(PENDULUM)
    manifests = run_collect("mujoco", expert={"source": "train", "keep_weak": False})
    assert manifests["mujoco-pendulum"]["skipped"]
    assert read_json("metrics/collect_mujoco.json")["skipped"] == 1
    assert not rows_of(PENDULUM)


def test_a_missing_or_broken_score_is_named() -> None:
    with pytest.raises(UserError, match=r"score\.json' does not exist"):
        run_collect("mujoco", expert={"source": "train"})
    write_json(EXPERT, [])
    with pytest.raises(UserError, match=r"score\.json': its contents must be a mapping"):
        run_collect("mujoco", expert={"source": "train"})


@pytest.mark.parametrize("name", ["metaworld", "babyai", "atari"])
def test_every_domain_is_collected(name: str) -> None:
    budget = {"episodes": 2, "slots": 2, "episodes_per_slot": 1}
    (manifest,) = run_collect(name, collect=budget).values()
    assert manifest["totals"]["rows"] == 2
    assert manifest["totals"]["bytes"] > 0


def test_a_policy_draws_anew_in_each_shard() -> None:
    """All shards begin alike otherwise: the policy draws for all slots at once."""
    run_collect("mujoco")
    shards = [list(read_rows(path)) for path in sorted(PENDULUM.glob("*.parquet"))]
    assert len(shards) == 2
    first, second = (
        {float(row["continuous_actions"][0, 0]) for row in shard if row["reset_index"] == 0}
        for shard in shards
    )
    assert len(first) == len(second) == 3
    assert not first & second
    seeds = [{row["seed"] for row in shard} for shard in shards]
    assert not seeds[0] & seeds[1], "environments are others, too"


def test_another_seed_gives_other_episodes_and_another_policy() -> None:
    firsts = []
    for seed in (3, 4):
        run_collect("mujoco", seed=seed)
        rows = rows_of(PENDULUM)
        firsts.append({float(row["continuous_actions"][0, 0]) for row in rows})
    assert not firsts[0] & firsts[1]
