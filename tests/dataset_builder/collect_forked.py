"""Collects with a random policy again and again, to be killed by SIGKILL or to be measured.

A warm process forks each run, so that a run costs what it collects and no imports. The folders
``whole`` (never killed) and ``killed*`` are left behind for comparison; what happened is printed.

    python collect_forked.py moments|renames|writing|memory
"""

import dataclasses
import json
import os
import random
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import envpool
import gymnasium
import numpy as np
import pyarrow.parquet as pq
from stages import leave_scores, play_at_random, settings

from dataset_builder import collect
from pipeline.domains import get_domain
from pipeline.params import Params
from pipeline.types import Engine, Observations, Step, Task

KILLS = 20
ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT
WIDTH, LENGTH = 4096, 50
"""Of an observation and of an episode, for memory: 0.8 MB an episode."""


class Patch:
    """The part of pytest's ``monkeypatch`` that ``play_at_random`` needs."""

    def setattr(self, dotted: str, value: object) -> None:
        module, _, name = dotted.rpartition(".")
        setattr(sys.modules[module], name, value)


def fork(folder: str, budget: dict, sabotage: Callable[[], object] = lambda: None) -> int:
    """Run the stage in ``folder`` in a process of its own; returns the process id."""
    Path(folder).mkdir(exist_ok=True)
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.chdir(folder)
        leave_scores("mujoco")
        sabotage()
        params = Params.model_validate(settings("mujoco", collect=budget))
        collect.main(params, Namespace(domain="mujoco", accept_code=False))
        status = 0
    finally:
        os._exit(status)


def wait(pid: int) -> bool:
    """Whether the process was killed; it must not fail otherwise."""
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or status == 0, f"status {status}"
    return killed


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_rename(number: int, after: bool) -> None:
    """Die right before or after the ``number``-th file gets its name."""
    rename, count = os.replace, 0

    def replace(source: str, target: str) -> None:
        nonlocal count
        count += 1
        if count == number and not after:
            die()
        rename(source, target)
        if count == number:
            die()

    os.replace = replace


def at_writing(method: str, after: bool) -> None:
    """Die right before or after a method of the shard's writer."""
    original = getattr(pq.ParquetWriter, method)

    def patched(self, *arguments, **more):
        if not after:
            die()
        original(self, *arguments, **more)
        die()

    setattr(pq.ParquetWriter, method, patched)


def at_moments() -> dict[str, int]:
    """Killed at random moments, each run going on where the last one was stopped."""
    budget = {"episodes": 360, "slots": 3, "episodes_per_slot": 2}
    wait(fork("whole", budget))
    rng, kills, made = random.Random(0), 0, 0
    for _ in range(KILLS):
        pid = fork("killed", budget)
        # Of 120 files; counted, so that a run gets somewhere however slow the machine is.
        enough = made + rng.randint(1, 4)
        while made < enough and os.waitid(os.P_PID, pid, ENDED) is None:
            time.sleep(0.001)
            made = files("killed")
        time.sleep(rng.uniform(0, 0.02))
        os.kill(pid, signal.SIGKILL)
        kills += wait(pid)
        made = files("killed")
    wait(fork("killed", budget))
    return {"kills": kills, "files": made}


def files(folder: str) -> int:
    return sum(1 for path in Path(folder).rglob("shard-*"))


def at_places(sabotages: list[Callable[[], object]]) -> dict[str, int]:
    """Killed at each of these places, in a folder of its own."""
    budget = {"episodes": 12, "slots": 3, "episodes_per_slot": 2}
    wait(fork("whole", budget))
    kills = 0
    for number, sabotage in enumerate(sabotages):
        kills += wait(fork(f"killed-{number}", budget, sabotage))
        wait(fork(f"killed-{number}", budget))
    return {"kills": kills}


class WideEnvs:
    """Environments with large observations that do not compress, at next to no cost."""

    def __init__(self, slots: int) -> None:
        self.num_envs = slots
        self.action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        self._noise = np.random.default_rng(0).random((LENGTH + slots, WIDTH), np.float32)
        self._time = np.zeros(slots, np.int64)

    def reset(self) -> Observations:
        return self._observe(np.arange(self.num_envs))

    def step(self, actions: np.ndarray, ids: np.ndarray) -> Step:
        self._time[ids] = (self._time[ids] + 1) % LENGTH
        ended, seen = self._time[ids] == 0, self._observe(ids)
        finals = {name: rows[ended] for name, rows in seen.items()}
        return Step(seen, actions, np.ones(len(ids), np.float32), ~ended & False, ended, finals)

    def close(self) -> None:
        pass

    def _observe(self, ids: np.ndarray) -> Observations:
        return {"continuous_observations": self._noise[self._time[ids] + ids]}


def peaks() -> dict[str, int]:
    """Peak memory in bytes of two runs, the second of which has ten times the episodes."""

    def widen() -> None:
        def make(task: Task, seeds: list[int], threads: int) -> WideEnvs:
            return WideEnvs(len(seeds))

        engine = Engine(make, loaded=lambda task: "none")
        domain = dataclasses.replace(get_domain("mujoco"), engines={"envpool": engine})
        Patch().setattr("pipeline.domains.mujoco.DOMAIN", domain)

    found = {}
    for quota in (8, 80):
        budget = {"episodes": 4 * quota, "slots": 4, "episodes_per_slot": quota}
        _, status, usage = os.wait4(fork(f"memory-{quota}", budget, widen), 0)
        assert status == 0
        found[str(quota)] = usage.ru_maxrss * 1024
    return found


if __name__ == "__main__":
    envpool.make_spec("InvertedPendulum-v4")  # imports what each run would import again
    play_at_random(Patch())
    if sys.argv[1] == "memory":
        result = peaks()
    elif sys.argv[1] == "moments":
        result = at_moments()
    elif sys.argv[1] == "renames":
        # Two shards, a record each, the manifest and the metrics.
        places = [(number, after) for number in range(1, 7) for after in (False, True)]
        result = at_places([lambda place=place: at_rename(*place) for place in places])
    else:
        places = [("__init__", False), ("__init__", True), ("write_table", False),
                  ("write_table", True), ("close", False), ("close", True)]  # fmt: skip
        result = at_places([lambda place=place: at_writing(*place) for place in places])
    print(json.dumps(result))
