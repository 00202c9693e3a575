"""The words that captions and questions about a grid world share, each with one exact meaning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dataset_builder.vision.grids import STEPS, Scene, Thing

NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)
PLURALS = {"key": "keys", "ball": "balls", "box": "boxes", "door": "doors"}
CORNERS = (
    ("top left corner", "top", "top right corner"),
    ("left side", "centre", "right side"),
    ("bottom left corner", "bottom", "bottom right corner"),
)


def with_article(noun: str) -> str:
    """ "an open door", "a key"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def counted(noun: str, count: int) -> str:
    """ "a red key", "two red keys", "no red key"; the kind is the noun's last word."""
    if count == 0:
        return f"no {noun}"
    if count == 1:
        return with_article(noun)
    *attributes, kind = noun.split()
    return " ".join((NUMBERS[count], *attributes, PLURALS[kind]))


def joined(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)


def full_name(thing: Thing) -> str:
    """ "red key", "locked blue door"."""
    return f"{thing.state} {thing.name}".strip()


def unique_things(scene: Scene) -> list[Thing]:
    """The things that their colour and kind single out, so that "the red key" means one of them."""
    names = Counter(thing.name for thing in scene.in_sight())
    return [thing for thing in scene.things if names[thing.name] == 1]


def objects(scene: Scene) -> list[Thing]:
    """The keys, balls and boxes that lie about: neither doors nor what the agent carries."""
    return [thing for thing in scene.things if thing.kind != "door"]


def steps_between(thing: Thing, place: tuple[int, int]) -> int:
    """Moves between neighbouring cells (Manhattan distance)."""
    return abs(thing.x - place[0]) + abs(thing.y - place[1])


def picture_region(scene: Scene, place: tuple[int, int]) -> str:
    """The ninth of the grid that a cell lies in."""
    return CORNERS[place[1] * 3 // scene.height][place[0] * 3 // scene.width]


def picture_direction(thing: Thing, place: tuple[int, int]) -> str:
    """The direction of a thing from a cell, as seen on the picture: one of eight directions.

    One axis alone is named when the offset along it is at least twice that along the other.
    """
    dx, dy = thing.x - place[0], thing.y - place[1]
    sideways = "to the left of" if dx < 0 else "to the right of"
    upright = "above" if dy < 0 else "below"
    return _one_or_both(dx, dy, sideways, upright, f"{upright} and {sideways}")


def agent_direction(thing: Thing, scene: Scene) -> str:
    """The direction of a thing for the agent, which looks the way it faces: one of eight."""
    dx, dy = thing.x - scene.agent[0], thing.y - scene.agent[1]
    step_x, step_y = STEPS[scene.facing]
    forward, rightward = dx * step_x + dy * step_y, dy * step_x - dx * step_y
    side = "left" if rightward < 0 else "right"
    depth = "in front of" if forward > 0 else "behind"
    both = f"{depth} the agent and to its {side}"
    return _one_or_both(
        rightward, forward, f"to the {side} of the agent", f"{depth} the agent", both
    )


def _one_or_both(first: int, second: int, name: str, other: str, both: str) -> str:
    if abs(first) >= 2 * abs(second):
        return name
    return other if abs(second) >= 2 * abs(first) else both
