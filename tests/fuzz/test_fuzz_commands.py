"""A command with a mistake in it ends with exit code 2 and a line, never with a traceback."""

import contextlib
import io
import os
import random
import runpy
import subprocess
import sys
import traceback
from pathlib import Path

import mutations
import pytest

ROOT = Path(__file__).parents[2]
PROFILE = """
profile: fuzz
workers: 1
mujoco: {tasks: [mujoco-pendulum], expert: {source: shipped}, collect: {episodes: 2}}
metaworld: {collect: {episodes: 1}}
babyai: {tasks: [babyai-go-to-obj], expert: {source: bot}, collect: {episodes: 2}}
atari: {collect: {episodes: 1}}
text: [{name: notes, source: "files:nowhere"}]
vision: [{name: own, source: "files:nowhere", train: 4, test: 2}]
"""
ODD = ["", " ", "nowhere", "-1", "0", "abc", "1e999", "nan", "\x1b[31mred", "a\nb", "é" * 500, "{}"]
"""Values that are seldom meant."""
NO_FILE = ["missing.yaml", "broken.yaml", "binary.yaml", ".", "", "/dev/null", "x" * 999]
NO_COUNT = ["0", "-1", "abc", "1.5", "", "9" * 5000]
NO_TASK = ["mujoco-pendulums", "", "\x1b[2J", "../..", "mujoco"]
NO_DOMAIN = ["mujoc", "", "all", "text"]
GIVEN: dict[str, list[str]] = {
    "experts.train": ["--domain", "mujoco"],
    "experts.play": ["--task", "mujoco-pendulum", "--folder", "nowhere"],
    "experts.score": ["--task", "mujoco-pendulum", "--folder", "nowhere"],
    "experts.publish": ["--to", "folder:out"],
    "experts.results": [],
    "experts.ship": [],
    "experts.random_scores": [],
    "dataset_builder.collect": ["--domain", "mujoco"],
    "dataset_builder.text.build": [],
    "dataset_builder.vision.build": [],
    "dataset_builder.build": [],
    "dataset_builder.publish": [],
    "dataset_builder.export": ["nowhere", "exported"],
    "dataset_builder.validate": ["nowhere"],
    "dataset_builder.explore": ["nowhere"],
    "trainer.run": [],
    "trainer.evaluate": [],
    "trainer.report": [],
    "trainer.study": ["kappa"],
    "trainer.generate": ["--prompt", "once"],
    "pipeline.plan": [],
    "pipeline.check": [],
    "pipeline.code": [],
    "pipeline.unlock": [],
}
"""Every module with a command line -> what is right on it, in a folder without any artifacts."""
WITHOUT_PARAMETERS = (
    "dataset_builder.export", "dataset_builder.explore", "trainer.generate", "pipeline.unlock",
)  # fmt: skip
WRONG: dict[str, dict[str, list[str]]] = {
    "experts.train": {"--domain": NO_DOMAIN},
    "experts.play": {"--task": NO_TASK, "--episodes": NO_COUNT, "--frames": NO_COUNT,
                     "--output": ["x.txt", "", "x"], "--seed": ["-1", "abc", ""]},
    "experts.score": {"--task": NO_TASK, "--episodes": NO_COUNT, "--seed": ["-1", "abc", "1.5"]},
    "experts.publish": {"--to": ["", "ftp:x", "hub:", "hub:a/b", "folder:"], "--task": NO_TASK},
    "dataset_builder.collect": {"--domain": NO_DOMAIN},
    "dataset_builder.text.build": {"--corpus": ODD},
    "dataset_builder.vision.build": {"--corpus": ODD},
    "dataset_builder.export": {"--episodes": NO_COUNT, "--config": ODD},
    "dataset_builder.validate": {"--replay": ["abc", "-1"], "--workers": NO_COUNT},
    "dataset_builder.explore": {"--split": ODD, "--task": NO_TASK},
    "trainer.run": {"--tasks": NO_TASK, "--dataset": ODD, "--from": ODD},
    "trainer.evaluate": {"--model": ODD, "--episodes": NO_COUNT, "--tasks": NO_TASK},
    "trainer.study": {"--seeds": NO_COUNT, "--steps": NO_COUNT, "--values": ["x", "nan"],
                      "--only": ODD, "--dataset": ODD, "--episodes": NO_COUNT},
    "trainer.generate": {"--tokens": NO_COUNT, "--temperature": ["-1", "x", "nan", "inf"],
                         "--image": ODD, "--model": ODD, "--seed": ["x", "", "9" * 30]},
    "pipeline.plan": {"--json": ["yes"]},
}  # fmt: skip
"""Module -> option -> values that it must refuse, or that lead to what is not there."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with parameters and nothing else."""
    (tmp_path / "params.yaml").write_text(PROFILE)
    (tmp_path / "broken.yaml").write_text(PROFILE + "profle: x\n")
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def command(rng: random.Random) -> list[str]:
    """A module and arguments that cannot be right."""
    module = rng.choice(list(GIVEN))
    arguments = list(GIVEN[module])
    wrong = WRONG.get(module, {})
    kind = rng.randrange(6)
    if wrong and kind > 1:
        option = rng.choice(list(wrong))
        return [module, *arguments, option, rng.choice(wrong[option])]
    if kind == 0 or module in WITHOUT_PARAMETERS:
        return [
            module,
            *arguments,
            rng.choice(["--nonsense", "--nonsense=1", "-q", "--", "--params"]),
        ]
    file = rng.choice(
        ["missing.yaml", "broken.yaml", "binary.yaml", ".", "", "/dev/null", "x" * 999]
    )
    return [module, *arguments, "--params", file]


def run(module: str, *arguments: str) -> tuple[int, str]:
    """Exit code and standard error of a command that runs in this process."""
    said = io.StringIO()
    known = sys.argv
    sys.argv = [module, *arguments]
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            runpy.run_module(module, run_name="__main__")
        return 0, said.getvalue()
    except SystemExit as end:
        return int(end.code or 0), said.getvalue()
    finally:
        sys.argv = known


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_mistake_on_a_command_line_is_a_line(project: Path) -> None:
    wrong = []
    for case in range(mutations.cases(30)):
        module, *arguments = command(random.Random(case))
        try:
            code, said = run(module, *arguments)
        except Exception:  # what the fuzzer is for
            code, said = 1, traceback.format_exc()
        last = said.strip().splitlines()[-1:] or [""]
        if code != 2 or "error: " not in last[0] or not last[0].isprintable():
            wrong.append(f"case {case}: {module} {arguments!r}"[:300] + f"\n{code} {said[-1500:]}")
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("case", range(mutations.cases(2)))
def test_programs_end_the_same_way(project: Path, case: int) -> None:
    module, *arguments = command(random.Random(1000 + case))
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments, "--nonsense"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_every_command_line_is_here() -> None:
    folders = [ROOT / name for name in ("pipeline", "experts", "dataset_builder", "trainer")]
    found = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for folder in folders
        for path in folder.rglob("*.py")
        if "__main__" in (text := path.read_text(encoding="utf8"))
        and ("run_stage(" in text or "ArgumentParser(" in text)
    }
    assert found - {"pipeline.stage"} == set(GIVEN)
