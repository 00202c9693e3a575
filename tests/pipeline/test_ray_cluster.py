"""Ray that is started here: what listens, where its files are, and what is left of it."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import ray_cluster
from pipeline.errors import UserError
from pipeline.ray_cluster import running_ray
from pipeline.ray_guard import marked

DRIVER = """
import os, sys, time
from pipeline.ray_cluster import running_ray
with running_ray(1):
    print(os.getpid(), flush=True)
    sys.stdin.readline()
"""


def start(folder: Path) -> subprocess.Popen:
    """A driver with a Ray of its own, which ends when it reads a line."""
    long = folder / ("x" * 120)
    long.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "TMPDIR": str(long)}
    environment.pop("RAY_ADDRESS", None)
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return process


def session(process: subprocess.Popen) -> Path:
    return ray_cluster.SESSIONS / f"{ray_cluster.PREFIX}{process.pid}"


def members(process: subprocess.Popen) -> list[int]:
    """Ray's processes of a driver."""
    return marked(f"{ray_cluster.MARK}={session(process)}".encode())


def open_to_others(pids: list[int]) -> list[str]:
    """Local addresses, other than loopback ones, on which these processes listen."""
    sockets = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(os.readlink(entry))  # noqa: PTH115
            except OSError:
                continue
    loopback = ("0100007F", "0000000000000000FFFF00000100007F", "0" * 24 + "01000000")
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    listening = [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    assert listening
    return [address for address in listening if address.rpartition(":")[0] not in loopback]


def wait_for_nothing(process: subprocess.Popen, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while (members(process) or session(process).exists()) and time.monotonic() < end:
        time.sleep(0.1)
    assert not members(process)
    assert not session(process).exists()


def test_it_listens_on_this_machine_alone_and_leaves_nothing(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert len(members(process)) > 3
    assert open_to_others([process.pid, *members(process)]) == []
    _, said = process.communicate("\n", timeout=100)
    assert process.returncode == 0
    assert said == ""
    assert not members(process)
    assert not session(process).exists()
    assert list((tmp_path / ("x" * 120)).iterdir()) == []


def test_nothing_of_it_outlives_a_killed_driver(tmp_path: Path) -> None:
    process = start(tmp_path)
    process.kill()
    process.communicate()
    wait_for_nothing(process)


@pytest.fixture
def mute() -> socket.socket:
    """A port where nobody says a word."""
    listening = socket.create_server(("127.0.0.1", 0))
    yield listening
    listening.close()


def test_a_closed_port_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, mute: socket.socket
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr(ray_cluster, "CONNECT_SECONDS", 1)
    address = f"127.0.0.1:{mute.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    begun = time.monotonic()
    with pytest.raises(UserError, match=f"RAY_ADDRESS={address} .*timed out"), running_ray(2):
        pass
    mute.close()
    with pytest.raises(UserError, match=f"RAY_ADDRESS={address} .*refused"), running_ray(2):
        pass
    assert time.monotonic() - begun < 60  # Ray itself tries for a minute each time
