"""Questions about grid worlds, each with its one true answer, written as text to learn from."""

from __future__ import annotations

from collections import Counter

import numpy as np

from dataset_builder.vision.grids import COLOURS, DOOR_STATES, FACINGS, OBJECTS, Scene, pick
from dataset_builder.vision.wording import (
    NUMBERS,
    PLURALS,
    agent_direction,
    full_name,
    objects,
    picture_direction,
    steps_between,
    unique_things,
    with_article,
)


def question_text(question: str, answer: str) -> str:
    """The layout of every question in every corpus of this package."""
    return f"question: {question} answer: {answer}"


def ask(scene: Scene, rng: np.random.Generator) -> tuple[str, str, str]:
    """(kind, question, answer); of the kinds, the first in a random order that fits the scene."""
    for index in rng.permutation(len(KINDS)):
        kind, make = KINDS[index]
        if pair := make(scene, rng):
            return kind, *pair
    raise AssertionError("the question of the total fits every scene")


Pair = tuple[str, str] | None


def _count(scene: Scene, rng: np.random.Generator) -> Pair:
    """Counts of what is there, and for one question in five of what may well not be."""
    things = scene.in_sight()
    if things and rng.random() < 0.8:
        thing = pick(rng, things)
        kind, colour = thing.kind, thing.colour
    else:
        kind, colour = pick(rng, tuple(PLURALS)), pick(rng, COLOURS)
    if rng.random() < 0.5:
        count = sum((thing.kind, thing.colour) == (kind, colour) for thing in things)
        return f"how many {colour} {PLURALS[kind]} are there?", NUMBERS[count]
    count = sum(thing.kind == kind for thing in things)
    return f"how many {PLURALS[kind]} are there?", NUMBERS[count]


def _total(scene: Scene, rng: np.random.Generator) -> Pair:
    count = sum(thing.kind != "door" for thing in scene.in_sight())
    return "how many keys, balls and boxes are there in all?", NUMBERS[count]


def _colour(scene: Scene, rng: np.random.Generator) -> Pair:
    kinds = Counter(thing.kind for thing in scene.in_sight())
    single = [thing for thing in scene.in_sight() if kinds[thing.kind] == 1]
    if not single:
        return None
    thing = pick(rng, single)
    return f"what colour is the {thing.kind}?", thing.colour


def _existence(scene: Scene, rng: np.random.Generator) -> Pair:
    """A question whether something is there: as often yes as no, so neither is a good guess."""
    present = sorted({thing.name for thing in scene.in_sight()})
    absent = [f"{colour} {kind}" for kind in OBJECTS for colour in COLOURS]
    absent = [name for name in absent if name not in present]
    if rng.random() < 0.5:
        return f"is there {with_article(pick(rng, absent))}?", "no"
    return (f"is there {with_article(pick(rng, present))}?", "yes") if present else None


def _left_or_right(scene: Scene, rng: np.random.Generator) -> Pair:
    things = unique_things(scene)
    pairs = [(a, b) for a in things for b in things if a.x != b.x]
    if not pairs:
        return None
    first, second = pick(rng, pairs)
    question = f"is the {first.name} further to the left or to the right than the {second.name}?"
    return question, "left" if first.x < second.x else "right"


def _where(scene: Scene, rng: np.random.Generator) -> Pair:
    things = unique_things(scene)
    if len(things) < 2:
        return None
    first, second = (things[i] for i in rng.permutation(len(things))[:2])
    question = f"where is the {first.name} seen from the {second.name}?"
    answer = picture_direction(first, (second.x, second.y))
    return question, answer.replace(" of", "")


def _from_agent(scene: Scene, rng: np.random.Generator) -> Pair:
    things = unique_things(scene)
    if not things:
        return None
    thing = pick(rng, things)
    return f"where is the {thing.name}?", agent_direction(thing, scene)


def _facing(scene: Scene, rng: np.random.Generator) -> Pair:
    if scene.view == "partial":
        return None  # always up
    return "which way does the agent face?", FACINGS[scene.facing]


def _carrying(scene: Scene, rng: np.random.Generator) -> Pair:
    if scene.view == "full":
        return None  # the picture does not show it
    answer = with_article(scene.carrying.name) if scene.carrying else "nothing"
    return "what is the agent carrying?", answer


def _nearest(scene: Scene, rng: np.random.Generator) -> Pair:
    by_distance = sorted(objects(scene), key=lambda thing: steps_between(thing, scene.agent))
    if len(by_distance) < 2:
        return None
    first, second = (steps_between(thing, scene.agent) for thing in by_distance[:2])
    if first == second:
        return None
    question = "which key, ball or box on the floor is the fewest steps away from the agent?"
    return question, f"the {by_distance[0].name}"


def _ahead(scene: Scene, rng: np.random.Generator) -> Pair:
    content = scene.ahead()
    if content == "" and rng.random() < 0.7:
        return None  # most cells are empty
    if isinstance(content, str):
        answer = with_article(content) if content else "nothing"
    else:
        answer = with_article(full_name(content))
    return "what is right ahead of the agent?", answer


def _door_state(scene: Scene, rng: np.random.Generator) -> Pair:
    doors = [thing for thing in unique_things(scene) if thing.kind == "door"]
    if not doors:
        return None
    door = pick(rng, doors)
    open_, closed, locked = DOOR_STATES
    return f"is the {door.name} {open_}, {closed} or {locked}?", door.state


def _more(scene: Scene, rng: np.random.Generator) -> Pair:
    """Never about equal numbers, so that "yes" and "no" are equally likely."""
    counts = Counter(thing.kind for thing in scene.in_sight())
    pairs = [(a, b) for a in PLURALS for b in PLURALS if counts[a] != counts[b]]
    if not pairs:
        return None
    first, second = pick(rng, pairs)
    question = f"are there more {PLURALS[first]} than {PLURALS[second]}?"
    return question, "yes" if counts[first] > counts[second] else "no"


KINDS = (
    ("count", _count),
    ("total", _total),
    ("colour", _colour),
    ("existence", _existence),
    ("left or right", _left_or_right),
    ("where", _where),
    ("from the agent", _from_agent),
    ("facing", _facing),
    ("carrying", _carrying),
    ("nearest", _nearest),
    ("ahead", _ahead),
    ("door state", _door_state),
    ("more", _more),
)
