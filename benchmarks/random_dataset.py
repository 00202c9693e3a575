"""Random content in the Hub's layout, for benchmarks that need no file of their own."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.domains import get_domain
from pipeline.schema import arrow_schema, to_table
from pipeline.shards import write_shard
from pipeline.tasks import get_task
from pipeline.types import Episode

EPISODES = {
    "mujoco-ant": (1000, 10),
    "metaworld-reach": (100, 40),
    "babyai-go-to-obj": (40, 100),
    "atari-pong": (320, 4),
}
"""Task -> (steps of an episode, episodes)."""
TASKS = {
    "mujoco": "mujoco-ant",
    "metaworld": "metaworld-reach",
    "babyai": "babyai-go-to-obj",
    "atari": "atari-pong",
    "text": "pages",
    "vision": "pictures",
}
"""Domain -> its task."""
WORDS = ("the", "agent", "opens", "a", "red", "door", "and", "takes", "its", "key")


def write_dataset(root: Path, domains: Sequence[str], seed: int = 0) -> None:
    """Write the training split of one task for each domain below ``root``."""
    rng = np.random.default_rng(seed)
    for domain in domains:
        task = TASKS[domain]
        path = root / task / "train-00000-of-00001.parquet"
        modality = get_domain(domain).modality
        assert modality is not None
        if domain == "text":
            table = pa.table(
                {"text": [sentence(rng, 2000) for _ in range(60)]}, arrow_schema(modality)
            )
        elif domain == "vision":
            pictures = [{"bytes": picture(rng), "path": None} for _ in range(64)]
            texts = [sentence(rng, int(n)) for n in rng.integers(8, 16, len(pictures))]
            table = pa.table({"images": pictures, "text": texts}, arrow_schema(modality))
        else:
            steps, count = EPISODES[task]
            table = to_table(modality, [episode(task, steps, rng) for _ in range(count)], "x", "0")
        write_shard(path, table.schema, [table])


def episode(task: str, steps: int, rng: np.random.Generator) -> Episode:
    """Random content of a domain's shapes."""
    domain, rows = get_task(task).domain, steps + 1
    info = {}
    if domain == "babyai":
        observations = {
            "discrete_observations": rng.integers(0, 11, (rows, 148)).astype(np.uint8),
            "text_observations": np.array([sentence(rng, 5)] * rows, dtype=object),
        }
        actions = rng.integers(0, 7, steps)
    elif domain == "atari":
        observations = {"frames": rng.integers(0, 256, (rows, 84, 84)).astype(np.uint8)}
        actions = rng.integers(0, 6, steps)
    else:
        width, outputs = {"mujoco": (27, 8), "metaworld": (39, 4)}[domain]
        observations = {"continuous_observations": rng.normal(size=(rows, width)).astype("f4")}
        actions = rng.uniform(-1, 1, (steps, outputs)).astype(np.float32)
        if domain == "metaworld":
            info = {"success": rng.random(steps) < 0.5}
    rewards = rng.normal(size=steps).astype(np.float32)
    return Episode(task, observations, actions, rewards, True, False, 1, 0, info)


def sentence(rng: np.random.Generator, words: int) -> str:
    """Words in a random order."""
    return " ".join(rng.choice(WORDS, words))


def picture(rng: np.random.Generator) -> bytes:
    """A PNG of 224 × 224 random pixels."""
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (224, 224, 3)).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
