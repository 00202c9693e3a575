"""Pictures of episodes: figures of returns and trajectories, and films of what an agent saw."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

FILM_FRAMES = 900  # a minute of Atari
SCREEN_MS = 67  # Atari shows 60 frames a second, of which every fourth is stored
GRID_MS = 250
GRID_SYMBOLS = 1 + 7 * 7 * 3  # direction and view
SHOWN_DIMENSIONS = 8
BINS = 30


def episodes_figure(
    title: str, returns: np.ndarray, lengths: np.ndarray, episode: Mapping[str, Any]
) -> bytes:
    """A PNG: histograms of returns and lengths (float (n,), int (n,)), and one episode's rewards
    and, where they are continuous, its observations and actions over time."""
    from matplotlib.figure import Figure

    shown = [name for name in ("observations", "actions") if f"continuous_{name}" in episode]
    figure = Figure(figsize=(10, 7 if len(shown) > 1 else 3.6), layout="constrained")
    axes = figure.subplots(*((2, 2) if len(shown) > 1 else (1, 3))).ravel()
    figure.suptitle(title)
    axes[0].hist(returns, _bins(returns), color="tab:blue")
    axes[0].set(xlabel="return", ylabel="episodes", title=f"mean {returns.mean():.4g}")
    axes[1].hist(lengths, _bins(lengths), color="tab:green")
    axes[1].set(xlabel="steps", ylabel="episodes", title=f"mean {lengths.mean():.4g}")
    if not shown:
        axes[2].plot(np.cumsum(episode["rewards"]), color="tab:blue")
        axes[2].set(xlabel="step", ylabel="return so far", title="a typical episode")
    for axis, name in zip(axes[2:], shown, strict=False):
        rows = episode[f"continuous_{name}"]
        axis.plot(rows[:, :SHOWN_DIMENSIONS], linewidth=0.9)
        few = min(rows.shape[1], SHOWN_DIMENSIONS)
        axis.set(xlabel="step", title=f"a typical episode's {name}: {few} of {rows.shape[1]}")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _bins(values: np.ndarray) -> Any:
    """Equal bins over the values' range, and one bar where all are equal."""
    return BINS if np.ptp(values) > 0 else [values[0] - 0.5, values[0] + 0.5]


def film(frames: Sequence[Image.Image], frame_ms: int) -> bytes:
    """An endless GIF of pictures of one size."""
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], duration=frame_ms, loop=0
    )
    return buffer.getvalue()


def screens(frames: np.ndarray) -> list[Image.Image]:
    """uint8 (T, 84, 84) as pictures of three times the size."""
    return [
        Image.fromarray(np.kron(frame, np.ones((3, 3), np.uint8))) for frame in frames[:FILM_FRAMES]
    ]


def grids(observations: np.ndarray, mission: str) -> list[Image.Image]:
    """uint8 (T, 148), direction and 7x7x3 symbols, as minigrid draws them, the mission below."""
    from minigrid.core.grid import Grid
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default(14)
    pictures = []
    for observation in observations[:FILM_FRAMES]:
        grid, visible = Grid.decode(observation[1:].reshape(7, 7, 3))
        picture = grid.render(32, (3, 6), agent_dir=3, highlight_mask=visible)
        canvas = Image.new("RGB", (300, 260), "white")
        canvas.paste(Image.fromarray(picture), (38, 4))
        ImageDraw.Draw(canvas).text((150, 244), mission, "black", font, anchor="mm")
        pictures.append(canvas)
    return pictures
