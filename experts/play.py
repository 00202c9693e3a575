"""Watch an expert: ``python -m experts.play --task mujoco-hopper --output hopper.mp4``.

Pictures come from the task's engine, or from one of its domain that draws without a display.
"""

import io
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experts.load import load_policy
from pipeline.domains import get_domain
from pipeline.engines import make_envs, render_options
from pipeline.errors import UserError
from pipeline.ownership import check_picture, mark
from pipeline.params import Params
from pipeline.paths import expert_folder
from pipeline.seeds import env_seeds
from pipeline.stage import log, progress, run_stage, write_atomic
from pipeline.tasks import get_task
from pipeline.types import Policy, Task, resolve

FPS = 30
SIDE = 256
"""Largest side of a picture in the file, in pixels."""
FORMATS = (".gif", ".mp4")


@dataclass(frozen=True)
class Replay:
    """What was seen of some episodes."""

    pictures: list[np.ndarray]
    """uint8 (H, W, 3) each, H and W even: the environment before each step."""
    returns: list[float]
    """The return of each episode; the last one may have been cut."""


def record(
    task: Task,
    make_policy: Callable[[int], Policy],
    seed: int,
    env: dict[str, Any],
    episodes: int = 1,
    frames: int = 300,
) -> Replay:
    """At most ``episodes`` episodes of ``make_policy(seed)``, and ``frames`` steps in all.

    UserError when this machine cannot draw the task.
    """
    seeds = env_seeds(seed, "play", task.id, count=episodes)
    pictures, returns = [], [0.0] * episodes
    with closing(_steps(task, make_policy, seeds, env)) as steps:
        for episode, picture, reward in progress(islice(steps, frames), task.id, frames, "frames"):
            pictures.append(_small(picture))
            returns[episode] += reward
            last = episode
    return Replay(pictures, returns[: last + 1])


def _steps(
    task: Task, make_policy: Callable[[int], Policy], seeds: list[int], env: dict[str, Any]
) -> Generator[tuple[int, np.ndarray, float]]:
    """(episode, picture before a step, its reward) of one episode a seed."""
    for episode, seed in enumerate(seeds):
        envs: Any = make_envs(task, [seed], **{**env, **render_options(task)})
        policy, ids = make_policy(seed), np.arange(1)
        try:
            policy.bind(envs)
            observations = envs.reset()
            rewards, started, ended = np.zeros(1, np.float32), np.ones(1, bool), False
            while not ended:
                seen = envs.render()
                step = envs.step(policy.act(observations, ids, started, rewards), ids)
                yield episode, seen, float(step.rewards[0])
                observations, rewards, started = step.observations, step.rewards, step.ended
                ended = bool(step.ended[0])
        finally:
            envs.close()


def _small(picture: np.ndarray) -> np.ndarray:
    """At most ``SIDE`` pixels wide and high; both even, as video needs it."""
    image = Image.fromarray(picture)
    image.thumbnail((SIDE, SIDE))
    return np.asarray(image)[: image.height // 2 * 2, : image.width // 2 * 2]


def encode(pictures: list[np.ndarray], suffix: str) -> bytes:
    """An endless GIF (``.gif``) or a video that browsers play (``.mp4``, VP9), with our mark."""
    return mark(to_gif(pictures) if suffix == ".gif" else to_mp4(pictures))


def to_gif(pictures: list[np.ndarray]) -> bytes:
    """An endless GIF."""
    first, *rest = (Image.fromarray(picture) for picture in pictures)
    data = io.BytesIO()
    first.save(data, "GIF", save_all=True, append_images=rest, duration=1000 // FPS, loop=0)
    return data.getvalue()


def to_mp4(pictures: list[np.ndarray]) -> bytes:
    """VP9 in MP4: OpenCV's packages cannot write H.264, and browsers do not play MPEG-4 part 2."""
    import cv2

    height, width = pictures[0].shape[:2]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "replay.mp4"
        code = cv2.VideoWriter.fourcc(*"vp09")
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, FPS, (width, height))
        if not writer.isOpened():
            raise UserError("this OpenCV cannot write VP9 videos: write a .gif instead")
        for picture in pictures:
            writer.write(np.ascontiguousarray(picture[:, :, ::-1]))
        writer.release()
        return path.read_bytes()


def main(params: Params, arguments: Namespace) -> None:
    """Write the picture file."""
    output, folder = arguments.output, arguments.folder
    if output.suffix not in FORMATS:
        raise UserError(f"--output '{output}' must end in {' or '.join(FORMATS)}")
    for name in ("episodes", "frames", "seed"):
        least = 0 if name == "seed" else 1
        if getattr(arguments, name) < least:
            raise UserError(f"--{name} is {getattr(arguments, name)}: at least {least}")
    check_picture(output)
    task = get_task(arguments.task)

    def make_policy(seed: int) -> Policy:
        if folder:
            return load_policy(task, folder, seed)
        make = resolve(get_domain(task.domain).policy)
        return make(task, folder=expert_folder(task), seed=seed, threads=1)

    env = params.env_of(task.id)
    replay = record(task, make_policy, arguments.seed, env, arguments.episodes, arguments.frames)
    write_atomic(output, encode(replay.pictures, output.suffix))
    returns = ", ".join(f"{score:.4g}" for score in replay.returns)
    log.info("%s: %d frames, returns %s", output, len(replay.pictures), returns)


def add_arguments(parser: ArgumentParser) -> None:
    """What to watch, and where it goes."""
    parser.add_argument("--task", required=True, help="a task id, such as mujoco-hopper")
    parser.add_argument("--output", type=Path, default=Path("replay.mp4"), help=".gif or .mp4")
    parser.add_argument("--folder", type=Path, help="an expert's folder instead of the stage's")
    parser.add_argument("--seed", type=int, default=0, help="of environment and policy")
    parser.add_argument("--episodes", type=int, default=1, help="at most this many")
    parser.add_argument("--frames", type=int, default=300, help="at most this many steps in all")


if __name__ == "__main__":
    run_stage(main, "Record what an expert does.", add_arguments)
