"""Numbers as a person reads them: few digits, a prefix, a unit."""

import math


def duration(hours: float) -> str:
    """Hours as hours, minutes or seconds: 0.05 -> "3 min"."""
    if math.isnan(hours) or not hours or hours >= 1:
        return quantity(hours, "h")
    if hours >= 1 / 60:
        return f"{hours * 60:.0f} min"
    return f"{max(1, hours * 3600):.0f} s"


def quantity(value: float, unit: str = "") -> str:
    """Three digits with a decimal prefix: 1234567 -> "1.23 M", 0 -> "–", nan -> "?"."""
    if math.isnan(value):
        return "?"
    if not value:
        return "–"
    for scale, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= scale:
            divisor = 1e3 if prefix == "k" else scale
            return f"{value / divisor:.3g} {prefix}{unit}"
    text = f"{value:.0f}" if value >= 100 or float(value).is_integer() else f"{value:.2g}"
    return f"{text} {unit}".strip()
