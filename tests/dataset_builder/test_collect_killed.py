"""Whoever dies and whenever, and whoever does the work: the same bytes."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import ray
import yaml
from ray.cluster_utils import Cluster
from stages import contents, play_at_random, run_collect, settings

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
EXPERT = Path("artifacts/experts/mujoco/mujoco-pendulum")
BUDGET = {"episodes": 60, "slots": 3, "episodes_per_slot": 2}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project whose experts play at random."""
    monkeypatch.chdir(tmp_path)
    play_at_random(monkeypatch)
    return tmp_path


def result_of(folder: Path) -> dict[str, bytes]:
    """Every file that collection made, hidden ones included."""
    return contents(folder / "artifacts/episodes") | contents(folder / "metrics")


def forked(mode: str) -> dict[str, int]:
    """Run ``collect_forked.py`` here, and return what it says."""
    command = [sys.executable, str(HERE / "collect_forked.py"), mode]
    done = subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def kill(project: Path, where: str) -> dict[str, int]:
    """Collect and be killed, again and again; all must end as what was left alone."""
    said = forked(where)
    expected = result_of(project / "whole")
    assert expected
    folders = list(project.glob("killed*"))
    assert folders
    assert all(result_of(folder) == expected for folder in folders)
    return said


def test_killed_at_twenty_moments(project: Path) -> None:
    said = kill(project, "moments")
    assert said["kills"] == 20
    assert said["files"] >= 20


def test_killed_before_and_after_each_file_gets_its_name(project: Path) -> None:
    assert kill(project, "renames") == {"kills": 12}


def test_killed_before_during_and_after_the_writing_of_a_shard(project: Path) -> None:
    assert kill(project, "writing") == {"kills": 6}


def test_ten_times_the_episodes_take_no_more_memory() -> None:
    once, often = forked("memory").values()
    assert often < 1.1 * once


def test_neither_workers_nor_the_death_of_one_change_a_byte(project: Path) -> None:
    play = {1: "load", 2: "load_mortal"}
    for workers, policy in play.items():
        folder = project / str(workers)
        (folder / EXPERT).mkdir(parents=True)
        parameters = settings("mujoco", collect=BUDGET) | {"workers": workers}
        (folder / "params.yaml").write_text(yaml.safe_dump(parameters))
        command = [sys.executable, str(HERE / "collect_random.py"), "--domain", "mujoco"]
        subprocess.run(command, cwd=folder, env=ENVIRONMENT | {"POLICY": policy}, check=True)
    assert (project / "2" / EXPERT / "died").exists()
    assert result_of(project / "1") == result_of(project / "2")


def test_two_nodes_share_the_work_and_one_may_die(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_collect("mujoco", collect=BUDGET)
    expected = result_of(project)
    (project / "cluster" / EXPERT).mkdir(parents=True)
    monkeypatch.chdir(project / "cluster")
    play_at_random(monkeypatch, "random_policy:load_located")
    marks = EXPERT.resolve()
    monkeypatch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{HERE.parents[1]}")
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    try:
        doomed = cluster.add_node(num_cpus=1)
        (marks / "doomed").write_text(doomed.node_id)
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        stuck = marks / f"node-{doomed.node_id}"

        def kill_node() -> None:
            while not stuck.exists() or len(stuck.read_text()) < 2:
                time.sleep(0.01)
            cluster.remove_node(doomed, allow_graceful=False)

        killer = threading.Thread(target=kill_node, daemon=True)
        killer.start()
        run_collect("mujoco", workers=2, collect=BUDGET)
        killer.join(timeout=60)
        assert not killer.is_alive()
    finally:
        ray.shutdown()
        cluster.shutdown()
    shards = {path.name: len(path.read_text()) for path in marks.glob("node-*")}
    assert len(shards) == 2
    assert shards[stuck.name] == 2
    assert sum(shards.values()) == 11  # ten, and the one that died was played again
    assert result_of(project / "cluster") == expected
