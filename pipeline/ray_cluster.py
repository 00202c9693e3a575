"""Ray for the length of a block: a cluster that runs already, or one of this machine's own.

Ray that is started here listens on the loopback address only, and leaves neither processes nor
files behind.
"""

import logging
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pipeline import ray_guard
from pipeline.errors import UserError
from pipeline.locks import free_lock, locked
from pipeline.stage import log

START_ATTEMPTS = 3
"""Ray waits 30 s for its own processes, which a busy machine may not meet the first time."""
CONNECT_SECONDS = 5
"""How long the cluster of ``RAY_ADDRESS`` may take to answer at all."""
SESSIONS = Path("/tmp")
"""The folder of Ray's session folders: a short path, as the names of its sockets may have 107
bytes, for which a long TMPDIR would leave no room."""
PREFIX = f"jat-ray-{os.getuid()}-"
MARK = "JAT_RAY_SESSION"
"""The environment variable by which Ray's processes are known."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a client of gRPC begins (RFC 9113, section 3.4); the server's answer is of type 4, too."""


@contextmanager
def running_ray(workers: int) -> Iterator[None]:
    """Join the cluster of ``RAY_ADDRESS``, or start Ray on this machine with ``workers`` CPUs.

    Does nothing where Ray runs in this process already. UserError if it cannot be had.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    settings: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}},
    }
    with ExitStack() as stack:
        if address := os.environ.get("RAY_ADDRESS"):
            stack.callback(ray.shutdown)
            _join(address, settings)
        else:
            folder = stack.enter_context(session_folder())
            stack.callback(ray.shutdown)
            _start(workers, folder, settings)
        yield


def _join(address: str, settings: dict[str, Any]) -> None:
    import ray

    try:
        _check_answers(address)
        ray.init(**settings)
    except Exception as error:  # Ray has many classes for this, RuntimeError among them
        raise UserError(
            f"no Ray cluster at RAY_ADDRESS={address} ({reason(error)}): "
            "start one, or unset RAY_ADDRESS"
        ) from None


def _check_answers(address: str) -> None:
    """OSError unless a server of gRPC answers at ``host:port``; Ray itself tries for a minute."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        return
    with socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS) as connection:
        if os.environ.get("RAY_USE_TLS", "0") == "0":
            connection.sendall(PREFACE)
            if connection.recv(9)[3:4] != b"\4":
                raise ConnectionError("what answers there is not Ray")


def _start(workers: int, folder: Path, settings: dict[str, Any]) -> None:
    import ray
    from ray._private import ray_constants

    # The one way to tell Ray that it is for this machine alone: it then takes 127.0.0.1 for the
    # node's address, and its servers listen there instead of everywhere.
    ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    # "local": without it Ray joins whichever cluster was started on this machine before.
    settings |= {
        "address": "local",
        "num_cpus": workers,
        "include_dashboard": False,
        "_temp_dir": str(folder),
    }
    if " " in sys.executable:  # Ray starts workers by a shell, and quotes all but their Python
        settings["runtime_env"]["py_executable"] = shlex.quote(sys.executable)
    try:
        for attempt in range(START_ATTEMPTS):
            try:
                ray.init(**settings)
                return
            except Exception as error:  # Ray has no class for a start that took too long
                ray.shutdown()
                if "timed out during startup" not in str(error) or attempt + 1 == START_ATTEMPTS:
                    raise UserError(
                        f"Ray does not start here ({reason(error)}): "
                        "free the machine, or set 'workers: 1' to do without it"
                    ) from None
                log.info("Ray took too long to start on this busy machine: once more")
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = True
        del os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"]


@contextmanager
def session_folder() -> Iterator[Path]:
    """A folder for Ray's files. When the block ends, or this process dies in whatever way, it is
    removed, and what still runs of Ray is killed.
    """
    for left in SESSIONS.glob(f"{PREFIX}*"):
        with free_lock(left) as free:
            if free:
                shutil.rmtree(left, ignore_errors=True)
    folder = SESSIONS / f"{PREFIX}{os.getpid()}"
    command = [sys.executable, "-P", "-S", "-E", ray_guard.__file__, MARK, str(folder)]
    with locked(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        os.environ[MARK] = str(folder)  # all that Ray starts inherits it
        guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        try:
            yield folder
        finally:
            del os.environ[MARK]
            guard.communicate()


def reason(error: Exception) -> str:
    """The class and the first line of an error; Ray wraps what a worker raised."""
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {cause}".splitlines()[0]
