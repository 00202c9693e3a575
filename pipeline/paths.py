"""The places of all stages' outputs, below the project's folder."""

from pathlib import Path

from pipeline.domains import stage_of
from pipeline.types import Task

ARTIFACTS = Path("artifacts")
METRICS = Path("metrics")
"""Small JSON and CSV files that ``dvc metrics`` and ``dvc plots`` show."""
EXPERTS = ARTIFACTS / "experts"
EPISODES = ARTIFACTS / "episodes"
RANDOM = ARTIFACTS / "random"
RANDOM_SCORES = RANDOM / "scores.json"
CORPORA = ARTIFACTS / "corpora"
DATASET = ARTIFACTS / "dataset"
PUBLISHED = ARTIFACTS / "published"
PUBLISHED_EXPERTS = ARTIFACTS / "published_experts"
"""The folder in which repositories of experts are put together that go to the Hub."""
JAT = ARTIFACTS / "jat"
EVALUATION = ARTIFACTS / "evaluation"
REPORT = ARTIFACTS / "report"
CODE = ARTIFACTS / "code"


def expert_folder(task: Task) -> Path:
    """The expert of one task: config.json, model.safetensors, score.json, curve.csv."""
    return EXPERTS / stage_of(task.domain) / task.id


def episodes_folder(task: Task) -> Path:
    """The collected episodes of one task: shards and manifest.json."""
    return EPISODES / stage_of(task.domain) / task.id


def corpus_folder(domain: str, name: str) -> Path:
    """One corpus of ``text`` or ``vision``: train and test files and report.json."""
    return CORPORA / domain / name


def is_there(path: str | Path) -> bool:
    """Whether a path that a person named leads anywhere; a name too long for a path does not."""
    try:
        return Path(path).exists()
    except OSError:
        return False


def expanded(path: str | Path) -> Path:
    """A path with the home folder that ``~`` stands for; as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
