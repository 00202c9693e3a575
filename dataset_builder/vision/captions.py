"""Captions for grid worlds: a few true sentences about a scene, chosen and worded at random."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from dataset_builder.vision.grids import COLOURS, FACINGS, OBJECTS, Scene, Thing, pick
from dataset_builder.vision.wording import (
    NUMBERS,
    PLURALS,
    agent_direction,
    counted,
    full_name,
    joined,
    objects,
    picture_direction,
    picture_region,
    steps_between,
    unique_things,
    with_article,
)

MAX_LISTED = 5  # groups named one by one; beyond, things are counted by kind
PARTIAL_OPENINGS = ("The agent sees {}.", "A partial view of a grid world with {}.")
FULL_OPENINGS = (
    "A grid world with {}.",
    "A grid world seen from above, with {}.",
    "The picture shows {}.",
)
ROOMS_OPENING = "A grid world of {} with {}."


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """What is there, mostly where the agent is, and up to three facts of different kinds."""
    sentences = [_opening(scene, rng)]
    about_agent = _carrying if scene.view == "partial" else _agent
    if rng.random() < 0.7:
        sentences.append(about_agent(scene, rng))
    facts: list[Callable[[Scene, np.random.Generator], str | None]]
    facts = [_relation, _from_agent, _distance, _count_of_kind, _count_of_colour, _ahead, _absence]
    for index in rng.permutation(len(facts))[: rng.integers(0, 4)]:
        if sentence := facts[index](scene, rng):
            sentences.append(sentence)
    return " ".join(sentences)


def _opening(scene: Scene, rng: np.random.Generator) -> str:
    contents = _contents(scene, rng)
    if scene.view == "partial":
        return pick(rng, PARTIAL_OPENINGS).format(contents)
    opening = pick(rng, (*FULL_OPENINGS, ROOMS_OPENING))
    if opening == ROOMS_OPENING:
        rooms = "one room" if scene.rooms == 1 else f"{NUMBERS[scene.rooms]} rooms"
        return opening.format(rooms, contents)
    return opening.format(contents)


def _contents(scene: Scene, rng: np.random.Generator) -> str:
    """All things that lie or stand about, grouped by name, or by kind where that gets long."""
    groups = Counter(full_name(thing) for thing in scene.things)
    if not groups:
        return "nothing but walls and floor"
    if len(groups) > MAX_LISTED:
        groups = Counter(thing.kind for thing in scene.things)
    names = list(groups)
    return joined([counted(names[i], groups[names[i]]) for i in rng.permutation(len(names))])


def _agent(scene: Scene, rng: np.random.Generator) -> str:
    region, facing = picture_region(scene, scene.agent), FACINGS[scene.facing]
    where = f"at the {region}" if region in ("top", "bottom") else f"in the {region}"
    where = where.replace("in the left side", "on the left side")
    where = where.replace("in the right side", "on the right side")
    return pick(
        rng,
        (
            f"The agent is {where} and faces {facing}.",
            f"The agent, a red triangle, is {where} and points {facing}.",
        ),
    )


def _carrying(scene: Scene, rng: np.random.Generator) -> str:
    if scene.carrying is None:
        return "The agent carries nothing."
    return f"The agent carries {with_article(scene.carrying.name)}."


def _relation(scene: Scene, rng: np.random.Generator) -> str | None:
    things = unique_things(scene)
    if len(things) < 2:
        return None
    first, second = (things[i] for i in rng.permutation(len(things))[:2])
    direction = picture_direction(first, (second.x, second.y))
    return f"The {first.name} is {direction} the {second.name}."


def _from_agent(scene: Scene, rng: np.random.Generator) -> str | None:
    thing = _any_unique(scene, rng)
    return thing and f"The {thing.name} is {agent_direction(thing, scene)}."


def _distance(scene: Scene, rng: np.random.Generator) -> str | None:
    thing = _any_unique(scene, rng)
    if thing is None or (steps := steps_between(thing, scene.agent)) >= len(NUMBERS):
        return None
    if steps == 1:
        return f"The {thing.name} is next to the agent."
    return f"The {thing.name} is {NUMBERS[steps]} steps away from the agent."


def _count_of_kind(scene: Scene, rng: np.random.Generator) -> str | None:
    kinds = Counter(thing.kind for thing in scene.in_sight())
    several = [kind for kind, count in kinds.items() if count > 1]
    if not several:
        return None
    kind = pick(rng, several)
    return f"There are {NUMBERS[kinds[kind]]} {PLURALS[kind]} in all."


def _count_of_colour(scene: Scene, rng: np.random.Generator) -> str | None:
    things = objects(scene)
    if len(things) < 2:
        return None
    colour = pick(rng, COLOURS)
    count = sum(thing.colour == colour for thing in things)
    subject = "None" if count == 0 else NUMBERS[count].capitalize()
    verb = "is" if count == 1 else "are"
    return f"{subject} of the {NUMBERS[len(things)]} objects on the floor {verb} {colour}."


def _ahead(scene: Scene, rng: np.random.Generator) -> str:
    content = scene.ahead()
    if content == "":
        return "The cell ahead of the agent is empty."
    noun = with_article("wall" if isinstance(content, str) else full_name(content))
    return f"Right ahead of the agent is {noun}."


def _absence(scene: Scene, rng: np.random.Generator) -> str | None:
    present = {thing.kind for thing in scene.in_sight()}
    absent = [kind for kind in (*OBJECTS, "door") if kind not in present]
    return f"There is {counted(pick(rng, absent), 0)} in sight." if absent else None


def _any_unique(scene: Scene, rng: np.random.Generator) -> Thing | None:
    things = unique_things(scene)
    return pick(rng, things) if things else None
