"""Figures that take their colours from the page: lines as SVG, bars as positions in per cent."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

WIDTH, HEIGHT = 320, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 26
Points = Sequence[tuple[float, float]]
Row = dict[str, Any]
"""One bar: label, value, low, high, mark, colour."""


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    points: Points
    colour: str = "accent"
    """A CSS variable of the page, without the dashes."""


@dataclass(frozen=True)
class Level:
    """A horizontal line to compare with."""

    name: str
    y: float


def nice_ticks(low: float, high: float, count: int = 3) -> list[float]:
    """About ``count`` round numbers that cover [low, high] from inside."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """The powers of ten within [low, high], or round numbers when there are fewer than two."""
    powers = [10.0**k for k in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    return powers if len(powers) > 1 else nice_ticks(low, high)


def short(value: float) -> str:
    """A number in few characters: 1234567 -> 1.2M, 0.00123 -> 0.0012."""
    for scale, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:.3g}{suffix}"
    return f"{value:.3g}"


def line_chart(
    title: str,
    series: Sequence[Series],
    levels: Sequence[Level] = (),
    *,
    x_name: str,
    logarithmic: bool = False,
) -> Markup:
    """An SVG with axes and one line a series; ``logarithmic`` applies to y, if all y > 1e-9."""
    ys = [y for line in series for _, y in line.points] + [level.y for level in levels]
    x_high = max(x for line in series for x, _ in line.points) or 1.0
    logarithmic = logarithmic and min(ys) > 1e-9
    low, high = min(ys), max(ys)
    if high - low <= 1e-9 * max(1e-3, abs(high), abs(low)):
        low, high = (low / 2, high * 2) if logarithmic else (low - 0.5, high + 0.5)
    ticks = decades(low, high) if logarithmic else nice_ticks(low, high)
    bend = math.log10 if logarithmic else float

    def at(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * x / x_high
        share = (bend(y) - bend(low)) / (bend(high) - bend(low))
        return round(across, 1), round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share, 1)

    parts = [_axes(ticks, at, x_high, x_name)]
    for k, level in enumerate(levels):
        y = at(0, level.y)[1]
        above = y - 3 if y > TOP + 12 else y + 11
        # Neighbours may be close to each other, so they are named at opposite ends.
        x, anchor = ((LEFT + 4, "start"), (WIDTH - RIGHT, "end"))[k % 2]
        parts.append(
            f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
            f'<text class="note" x="{x}" y="{above}" text-anchor="{anchor}">'
            f"{escape(level.name)}</text>"
        )
    for line in series:
        path = " ".join(f"{x},{y}" for x, y in (at(*point) for point in line.points))
        x, y = at(*line.points[-1])
        parts.append(
            f'<g style="--c:var(--{line.colour})"><polyline class="line" points="{path}"/>'
            f'<circle class="dot" cx="{x}" cy="{y}" r="2.5"/>'
            f"<title>{escape(line.name)}: {short(line.points[-1][1])}</title></g>"
        )
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def _axes(
    ticks: Sequence[float],
    at: Callable[[float, float], tuple[float, float]],
    x_high: float,
    x_name: str,
) -> str:
    parts = []
    for tick in ticks:
        y = at(0, tick)[1]
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
            f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5}" text-anchor="end">'
            f"{short(tick)}</text>"
        )
    bottom = HEIGHT - BOTTOM + 16
    parts.append(
        f'<text class="tick" x="{LEFT}" y="{bottom}">0</text>'
        f'<text class="tick" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{bottom}" '
        f'text-anchor="middle">{escape(x_name)}</text>'
        f'<text class="tick" x="{WIDTH - RIGHT}" y="{bottom}" '
        f'text-anchor="end">{short(x_high)}</text>'
    )
    return "".join(parts)


def bars(rows: Sequence[Row]) -> list[Row]:
    """Rows with positions in per cent of the width; what lies outside -0.25 … 1.5 is cut."""
    numbers = [row[key] for row in rows for key in ("value", "low", "high", "mark")]
    known = [value for value in numbers if value is not None and math.isfinite(value)]
    left = max(min([0.0, *known]), -0.25)
    right = min(max([1.05, *known]), 1.5)

    def at(value: float) -> float:
        return round(100 * (min(max(value, left), right) - left) / (right - left), 2)

    placed = []
    for row in rows:
        value, low, high, mark = row["value"], row["low"], row["high"], row["mark"]
        ends = (0.0, 0.0) if value is None else tuple(sorted((at(0), at(value))))
        whisker = (None, None) if low is None or high is None else (at(low), at(high))
        placed.append(
            {
                **row,
                "left": ends[0],
                "width": round(ends[1] - ends[0], 2),
                "low": whisker[0],
                "span": None if whisker[1] is None else round(whisker[1] - whisker[0], 2),
                "mark": None if mark is None else at(mark),
                "one": at(1),
                "number": "–" if value is None else f"{value:.2f}",
                "text": bar_text(row),
            }
        )
    return placed


def bar_text(row: Row) -> str:
    """What a bar says when it is pointed at."""
    text = "no score" if row["value"] is None else f"{row['value']:.3f}"
    if row["low"] is not None and row["high"] is not None:
        text += f" (95 %: {row['low']:.3f} to {row['high']:.3f})"
    return text if row["mark"] is None else f"{text}, published {row['mark']:.2f}"
