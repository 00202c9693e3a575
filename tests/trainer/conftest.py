"""Small datasets in the Hub layout, one task of every modality."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.domains import text, vision
from pipeline.schema import arrow_schema, to_table
from pipeline.shards import write_shard
from pipeline.tasks import get_task
from pipeline.types import Episode

# Tests run side by side: more threads of one would wait for those of another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

LENGTHS = (5, 11, 1, 7)
"""Steps of the episodes of every task."""
TASKS = (
    "mujoco-pendulum",
    "metaworld-reach",
    "babyai-go-to-obj",
    "atari-pong",
    "notes",
    "pictures",
)


def make_episode(task: str, steps: int, rng: np.random.Generator, seed: int = 1) -> Episode:
    """Random content with the shapes of the task's domain."""
    domain = get_task(task).domain
    rows, info = steps + 1, {}
    actions = rng.integers(0, 6, steps)
    if domain == "babyai":
        symbols = rng.integers(0, 11, (rows, 148)).astype(np.uint8)
        mission = f"go to the {rng.choice(['red', 'green'])} ball"
        observations = {
            "discrete_observations": symbols,
            "text_observations": np.array([mission] * rows, dtype=object),
        }
    elif domain == "atari":
        observations = {"frames": rng.integers(0, 256, (rows, 84, 84)).astype(np.uint8)}
    else:
        size, outputs = {"mujoco": (4, 1), "metaworld": (39, 4)}[domain]
        observations = {
            "continuous_observations": rng.normal(3, 5, (rows, size)).astype(np.float32)
        }
        actions = rng.uniform(-1, 1, (steps, outputs)).astype(np.float32)
        if domain == "metaworld":
            info = {"success": rng.random(steps) < 0.5}
    rewards = rng.normal(size=steps).astype(np.float32)
    return Episode(task, observations, actions, rewards, True, False, seed, 0, info)


def write_episodes(root: Path, task: str, split: str, episodes: list[Episode]) -> None:
    """Two shards, so that order across files counts."""
    modality = get_task(task).modality
    for shard, part in enumerate((episodes[:2], episodes[2:])):
        path = root / task / f"{split}-{shard:05d}-of-00002.parquet"
        tables = [to_table(modality, [episode], "test", "0") for episode in part]
        write_shard(path, arrow_schema(modality), tables)


@pytest.fixture
def write() -> Callable[[Path, str, str, list[Episode]], None]:
    """What writes a split of a dataset."""
    return write_episodes


def png(rng: np.random.Generator) -> bytes:
    """A random picture of 40 × 30 pixels."""
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def episodes() -> dict[str, list[Episode]]:
    """What the training splits of ``dataset`` hold."""
    rng = np.random.default_rng(0)
    return {task: [make_episode(task, n, rng) for n in LENGTHS] for task in TASKS[:4]}


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory, episodes: dict[str, list[Episode]]) -> Path:
    """A dataset folder with the six tasks of ``TASKS``."""
    root = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(1)
    for split in ("train", "test"):
        for task, rows in episodes.items():
            write_episodes(root, task, split, rows)
        texts = [f"note {k}: " + "all work and no play. " * k for k in range(1, 9)]
        table = pa.table({"text": texts}, arrow_schema(text.DOMAIN.modality))
        write_shard(root / "notes" / f"{split}-00000-of-00001.parquet", table.schema, [table])
        images = [{"bytes": png(rng), "path": None} for _ in range(5)]
        table = pa.table(
            {"images": images, "text": [f"noise {k}" for k in range(5)]},
            arrow_schema(vision.DOMAIN.modality),
        )
        write_shard(root / "pictures" / f"{split}-00000-of-00001.parquet", table.schema, [table])
    return root
