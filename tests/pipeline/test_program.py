import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INTERRUPT = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""
"""A ``sitecustomize`` that sends Ctrl-C to its process when it imports a certain module."""


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """A process inherits that Ctrl-C is ignored, as it is in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("module", "moment"),
    [
        ("trainer.run", "transformers"),
        ("trainer.run", "torch"),
        ("trainer.evaluate", "numpy"),
        ("experts.train", "pipeline.params"),
        ("experts.train", "pipeline.system_errors"),
        ("dataset_builder.build", "pyarrow"),
        ("dataset_builder.text.build", "pipeline.schema"),
        ("pipeline.plan", "pipeline.params"),
        ("trainer.report", "encodings.idna_that_is_never_imported"),
    ],
)
def test_ctrl_c_is_one_line_while_modules_are_imported(
    tmp_path: Path, module: str, moment: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPT)
    environment = {
        **os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "INTERRUPT_AT": moment,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", module, "--params", "none.yaml"],
        cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if "never" in moment:
        assert done.returncode == 2
        return
    assert done.stderr == "stopped: run the same command again to go on from here\n"
    assert done.returncode == 130


TOY = """
import os, sys, time
from pipeline.stage import exit_with_one_line
def run():
    try:
        print(os.getpid(), flush=True)
        {wait}
    finally:
        open("cleaned", "w").close()
exit_with_one_line(run)
"""


def toy(folder: Path, wait: str = "time.sleep(600)") -> dict[str, str]:
    """A package whose module ``toy.run`` is a stage; the environment to run it in."""
    (folder / "toy").mkdir()
    (folder / "toy" / "__init__.py").write_text("import pipeline\n")
    (folder / "toy" / "run.py").write_text(TOY.format(wait=wait))
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def ended(pid: int, seconds: float = 60) -> bool:
    """Whether a process, which may be nobody's child, ends in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_ctrl_c_in_the_work_cleans_up(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "toy.run"], cwd=tmp_path, env=toy(tmp_path),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 130
    assert said == "stopped: run the same command again to go on from here\n"
    assert (tmp_path / "cleaned").exists()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux alone can watch a process")
@pytest.mark.parametrize("deaf", [False, True])
def test_a_stage_ends_with_its_dvc_though_shells_are_between(tmp_path: Path, deaf: bool) -> None:
    stage = f"sh -c '{sys.executable} -m toy.run; true'; true"
    given = "{**os.environ, 'DVC_STAGE': 'toy'}"
    code = f"import os, subprocess; subprocess.run({stage!r}, shell=True, env={given})"
    wait = "import signal; signal.signal(2, signal.SIG_IGN); time.sleep(600)"
    environment = toy(tmp_path, wait if deaf else "time.sleep(600)")
    environment.pop("DVC_STAGE", None)
    dvc = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert dvc.stdout is not None
    pid = int(dvc.stdout.readline())
    dvc.kill()
    dvc.wait()
    assert ended(pid)
    assert (tmp_path / "cleaned").exists() != deaf  # who does not listen is killed


SPAWN = """
import multiprocessing, os, time
def work(name):
    open(name, "w").write(str(os.getpid()))
    time.sleep(600)
if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=work, args=("child",)).start()
    time.sleep(600)
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux alone can watch a process")
def test_a_spawned_process_ends_with_its_parent(tmp_path: Path) -> None:
    environment = toy(tmp_path)
    (tmp_path / "toy" / "run.py").write_text(SPAWN)
    process = subprocess.Popen(
        [sys.executable, "-m", "toy.run"], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL
    )
    child = tmp_path / "child"
    while not child.exists() or not child.read_text():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert ended(int(child.read_text()))
