"""Pictures show what the scene says, and every sentence and answer is true of it."""

import re
from collections import Counter

import numpy as np
import pytest
from minigrid.core.grid import Grid
from minigrid.core.world_object import WorldObj
from minigrid.minigrid_env import MiniGridEnv, MissionSpace

from dataset_builder.vision import grids
from dataset_builder.vision.captions import caption
from dataset_builder.vision.grids import Scene, Thing, draw_scene, render
from dataset_builder.vision.questions import KINDS, ask

SCENES = 400
STEPS = {0: (1, 0), 1: (0, 1), 2: (-1, 0), 3: (0, -1)}
FACINGS = ["right", "down", "left", "up"]
NUMBERS = [
    *["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"],
    *["eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"],
    *["nineteen", "twenty"],
]
KIND = r"(?:key|ball|box|door)"
COLOUR = r"(?:red|green|blue|purple|yellow|grey)"
THING = rf"({COLOUR}) ({KIND})"
PLURAL = r"(keys|balls|boxes|doors)"


def drawn(index: int, partial_share: float = 0.4) -> tuple[Scene, np.random.Generator]:
    rng = np.random.default_rng(np.random.SeedSequence((7, index)))
    return draw_scene(rng, partial_share), rng


def singular(noun: str) -> str:
    return {"keys": "key", "balls": "ball", "boxes": "box", "doors": "door"}.get(noun, noun)


def number(word: str) -> int:
    word = {"a": "one", "an": "one", "no": "zero", "none": "zero"}.get(word.lower(), word.lower())
    return NUMBERS.index(word)


def everything(scene: Scene) -> list[Thing]:
    return [*scene.things, *([scene.carrying] if scene.carrying else [])]


def the(scene: Scene, colour: str, kind: str) -> Thing:
    """What "the red key" refers to: exactly one thing in the picture."""
    (thing,) = [t for t in everything(scene) if (t.colour, t.kind) == (colour, kind)]
    return thing


def cell_ahead(scene: Scene) -> str:
    x, y = (scene.agent[k] + STEPS[scene.facing][k] for k in (0, 1))
    content = scene.grid.get(x, y)
    if content is None:
        return ""
    state = {0: "open ", 1: "closed ", 2: "locked "}[content.encode()[2]]
    if content.type == "wall":
        return "wall"
    return f"{state if content.type == 'door' else ''}{content.color} {content.type}"


def offsets(scene: Scene, thing: Thing) -> tuple[int, int]:
    """(steps to the agent's right, steps ahead of it), by turning the picture until it faces up."""
    vector = complex(thing.x - scene.agent[0], -(thing.y - scene.agent[1]))
    heading = complex(STEPS[scene.facing][0], -STEPS[scene.facing][1])
    turned = vector * 1j / heading
    return round(turned.real), round(turned.imag)


def check_direction(words: str, right: int, ahead: int) -> None:
    """Each named side is a true one, and a side left unnamed is at most half of the other."""
    sides = {
        "right": right > 0,
        "left": right < 0,
        "above": ahead > 0,
        "below": ahead < 0,
        "in front": ahead > 0,
        "behind": ahead < 0,
    }
    named = [side for side in sides if side in words]
    assert named, words
    assert all(sides[side] for side in named), (words, right, ahead)
    if not {"right", "left"} & set(named):
        assert 2 * abs(right) <= abs(ahead)
    if set(named) <= {"right", "left"}:
        assert 2 * abs(ahead) <= abs(right)


def check_contents(scene: Scene, listing: str) -> None:
    """The list is complete: its groups add up to all that lies or stands about."""
    if listing == "nothing but walls and floor":
        assert not scene.things
        return
    groups = re.split(r", | and ", listing)
    listed: Counter[str] = Counter()
    for group in groups:
        match = re.fullmatch(rf"(\w+) (?:(open|closed|locked) )?(?:({COLOUR}) )?(\w+)", group)
        assert match, group
        count, state, colour, noun = match.groups()
        kind = singular(noun)
        assert (noun == kind) == (number(count) == 1), group
        if count in ("a", "an"):
            assert (count == "an") == (group.split()[1][0] in "aeiou")
        key = " ".join(part for part in (state, colour, kind) if part)
        assert key not in listed
        listed[key] = number(count)
    by_name = Counter(f"{t.state} {t.colour} {t.kind}".strip() for t in scene.things)
    assert listed in (by_name, Counter(t.kind for t in scene.things)), listing


def check_region(scene: Scene, words: str) -> None:
    x, y = scene.agent
    column = (3 * x // scene.width, {"left": 0, "right": 2})
    row = (3 * y // scene.height, {"top": 0, "bottom": 2})
    for third, names in (column, row):
        named = [value for name, value in names.items() if name in words]
        assert (named or [1]) == [third], (words, scene.agent)


def check_sentence(scene: Scene, sentence: str) -> str:
    """Assert that one sentence of a caption is true; return the form that it has."""

    def match(form: str) -> tuple[str, ...]:
        found = re.fullmatch(form, sentence)
        return found.groups() if found else ()

    if groups := match(
        r"(?:The agent sees|A partial view of a grid world with|A grid world with|"
        r"A grid world seen from above, with|The picture shows) (.+)\."
    ):
        assert ("agent sees" in sentence or "partial" in sentence) == (scene.view == "partial")
        check_contents(scene, groups[0])
        return "contents"
    if groups := match(r"A grid world of (\w+) rooms? with (.+)\."):
        assert scene.view == "full"
        assert number(groups[0]) == scene.rooms
        check_contents(scene, groups[1])
        return "rooms"
    if groups := match(r"The agent(?:, a red triangle,)? is (.+) and (?:faces|points) (\w+)\."):
        assert scene.view == "full"
        assert groups[1] == FACINGS[scene.facing]
        check_region(scene, groups[0])
        return "agent"
    if sentence == "The agent carries nothing.":
        assert scene.view == "partial"
        assert scene.carrying is None
        return "carries"
    if groups := match(rf"The agent carries an? {THING}\."):
        assert scene.carrying
        assert (scene.carrying.colour, scene.carrying.kind) == groups
        return "carries"
    if groups := match(rf"The {THING} is ([\w ]+) the {THING}\."):
        first, second = the(scene, *groups[:2]), the(scene, *groups[3:])
        check_direction(groups[2], first.x - second.x, second.y - first.y)
        return "relation"
    if groups := match(rf"The {THING} is next to the agent\."):
        thing = the(scene, *groups)
        assert abs(thing.x - scene.agent[0]) + abs(thing.y - scene.agent[1]) == 1
        return "distance"
    if groups := match(rf"The {THING} is (\w+) steps away from the agent\."):
        thing = the(scene, *groups[:2])
        steps = abs(thing.x - scene.agent[0]) + abs(thing.y - scene.agent[1])
        assert steps == number(groups[2])
        return "distance"
    if groups := match(rf"The {THING} is (.+ the agent.*)\."):
        check_direction(groups[2], *offsets(scene, the(scene, *groups[:2])))
        return "from the agent"
    if groups := match(rf"There are (\w+) {PLURAL} in all\."):
        kinds = Counter(thing.kind for thing in everything(scene))
        assert number(groups[0]) == kinds[singular(groups[1])] > 1
        return "count"
    if groups := match(rf"(\w+) of the (\w+) objects on the floor (is|are) ({COLOUR})\."):
        things = [thing for thing in scene.things if thing.kind != "door"]
        assert number(groups[1]) == len(things)
        assert number(groups[0]) == sum(thing.colour == groups[3] for thing in things)
        assert (groups[2] == "is") == (number(groups[0]) == 1)
        return "colours"
    if sentence == "The cell ahead of the agent is empty.":
        assert cell_ahead(scene) == ""
        return "ahead"
    if groups := match(r"Right ahead of the agent is an? (.+)\."):
        assert cell_ahead(scene) == groups[0]
        return "ahead"
    groups = match(rf"There is no ({KIND}) in sight\.")
    assert groups, f"a sentence of no known form: {sentence}"
    assert groups[0] not in {thing.kind for thing in everything(scene)}
    return "absence"


def check_answer(scene: Scene, question: str, answer: str) -> None:
    """Assert that an answer is true; a question of no known form fails."""

    def match(form: str) -> tuple[str, ...]:
        found = re.fullmatch(form, question)
        return found.groups() if found else ()

    things = everything(scene)
    if question == "how many keys, balls and boxes are there in all?":
        assert number(answer) == sum(thing.kind != "door" for thing in things)
    elif groups := match(rf"how many ({COLOUR}) {PLURAL} are there\?"):
        wanted = (groups[0], singular(groups[1]))
        assert number(answer) == sum((t.colour, t.kind) == wanted for t in things)
    elif groups := match(rf"how many {PLURAL} are there\?"):
        assert number(answer) == sum(t.kind == singular(groups[0]) for t in things)
    elif groups := match(rf"what colour is the ({KIND})\?"):
        assert [thing.colour for thing in things if thing.kind == groups[0]] == [answer]
    elif groups := match(rf"is there an? {THING}\?"):
        present = any((thing.colour, thing.kind) == groups for thing in things)
        assert answer == ("yes" if present else "no")
    elif groups := match(rf"is the {THING} further to the left or to the right than the {THING}\?"):
        first, second = the(scene, *groups[:2]), the(scene, *groups[2:])
        assert first.x != second.x
        assert answer == ("left" if first.x < second.x else "right")
    elif groups := match(rf"where is the {THING} seen from the {THING}\?"):
        first, second = the(scene, *groups[:2]), the(scene, *groups[2:])
        check_direction(answer, first.x - second.x, second.y - first.y)
    elif groups := match(rf"where is the {THING}\?"):
        check_direction(answer, *offsets(scene, the(scene, *groups)))
    elif question == "which way does the agent face?":
        assert scene.view == "full"
        assert answer == FACINGS[scene.facing]
    elif question == "what is the agent carrying?":
        carried = scene.carrying
        assert scene.view == "partial"
        assert answer == (f"a {carried.colour} {carried.kind}" if carried else "nothing")
    elif question == "which key, ball or box on the floor is the fewest steps away from the agent?":
        steps = {
            thing: abs(thing.x - scene.agent[0]) + abs(thing.y - scene.agent[1])
            for thing in scene.things
            if thing.kind != "door"
        }
        nearest = [thing for thing in steps if steps[thing] == min(steps.values())]
        assert [f"the {thing.colour} {thing.kind}" for thing in nearest] == [answer]
    elif question == "what is right ahead of the agent?":
        content = cell_ahead(scene)
        assert answer == "nothing" if content == "" else answer.split(" ", 1)[1] == content
    elif groups := match(rf"is the {THING} open, closed or locked\?"):
        assert answer == the(scene, *groups).state
    else:
        groups = match(rf"are there more {PLURAL} than {PLURAL}\?")
        assert groups, f"a question of no known form: {question}"
        first, second = (sum(t.kind == singular(noun) for t in things) for noun in groups)
        assert first != second
        assert answer == ("yes" if first > second else "no")


def test_every_sentence_of_every_caption_is_true():
    forms: Counter[str] = Counter()
    for index in range(SCENES):
        scene, rng = drawn(index)
        text = caption(scene, rng)
        sentences = re.split(r"(?<=\.) ", text)
        found = [check_sentence(scene, sentence) for sentence in sentences]
        assert len(set(found)) == len(found), text
        forms.update(found)
    assert len(forms) == 11, forms
    assert min(forms.values()) >= 10, forms


def test_every_answer_is_true_and_every_kind_of_question_occurs():
    kinds: Counter[str] = Counter()
    for index in range(3 * SCENES):
        scene, rng = drawn(index)
        kind, question, answer = ask(scene, rng)
        check_answer(scene, question, answer)
        kinds[kind] += 1
    assert set(kinds) == {kind for kind, _ in KINDS}
    assert min(kinds.values()) >= 20, kinds


@pytest.mark.parametrize(("kind", "limit"), [("existence", 0.56), ("more", 0.6), ("ahead", 0.6)])
def test_no_answer_is_a_good_guess(kind, limit):
    make = dict(KINDS)[kind]
    answers: Counter[str] = Counter()
    for index in range(1500):
        if pair := make(*drawn(index)):
            answers[pair[1]] += 1
    assert max(answers.values()) / answers.total() < limit, answers


def test_a_false_statement_is_noticed():
    """The checks above can fail: each true caption, with one word changed, is refused."""
    swaps = {"left": "right", "right": "left", "faces up": "faces down", "two": "three"}
    refused = 0
    for index in range(SCENES):
        scene, rng = drawn(index)
        for sentence in re.split(r"(?<=\.) ", caption(scene, rng)):
            for word, other in swaps.items():
                if word in sentence and "and to" not in sentence:
                    with pytest.raises((AssertionError, ValueError)):
                        check_sentence(scene, sentence.replace(word, other))
                    refused += 1
    assert refused > 100


def test_the_picture_shows_the_scene_cell_by_cell():
    for index in range(30):
        scene, _ = drawn(index)
        picture = render(scene, 224)
        assert picture.shape == (224, 224, 3)
        assert picture.dtype == np.uint8
        cell = 224 // max(scene.width, scene.height)
        top, left = (224 - scene.height * cell) // 2, (224 - scene.width * cell) // 2
        things = {(thing.x, thing.y): thing for thing in scene.things}
        for y in range(scene.height):
            for x in range(scene.width):
                if (x, y) == scene.agent:
                    continue
                tile = picture[top + y * cell :, left + x * cell :][:cell, :cell]
                lit = bool(scene.view == "partial" and scene.visible[x, y])
                content = expected_content(scene, things.get((x, y)), x, y)
                expected = Grid.render_tile(content, highlight=lit, tile_size=cell)
                np.testing.assert_array_equal(tile, expected.astype(np.uint8))


def expected_content(scene: Scene, thing: Thing | None, x: int, y: int) -> WorldObj | None:
    from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX

    if thing is None:
        content = scene.grid.get(x, y)
        assert content is None or content.type == "wall"
        return content
    state = {"open": 0, "closed": 1, "locked": 2, "": 0}[thing.state]
    return WorldObj.decode(OBJECT_TO_IDX[thing.kind], COLOR_TO_IDX[thing.colour], state)


class Room(MiniGridEnv):
    """minigrid's own environment around a grid of ours."""

    def __init__(self, grid: Grid, agent: tuple[int, int], facing: int, carried: WorldObj | None):
        self.drawn = grid, agent, facing
        mission = MissionSpace(mission_func=lambda: "look")
        super().__init__(mission, width=grid.width, height=grid.height, max_steps=1)
        self.reset()
        self.carrying = carried

    def _gen_grid(self, width: int, height: int) -> None:
        self.grid, self.agent_pos, self.agent_dir = self.drawn
        self.mission = "look"


@pytest.mark.parametrize("carried", [None, grids.OBJECTS["key"]("blue")])
def test_a_partial_view_is_what_minigrid_lets_its_agent_see(carried):
    for index in range(25):
        full, _ = drawn(index, partial_share=0.0)
        for facing in range(4):
            view = grids._partial_view(full.grid, full.agent, facing, carried)
            room = Room(full.grid, full.agent, facing, carried)
            np.testing.assert_array_equal(render(view, 224), room.get_pov_render(tile_size=32))


def test_the_same_generator_state_gives_the_same_scene():
    for index in range(20):
        (first, _), (second, _) = drawn(index), drawn(index)
        assert first.things == second.things
        assert first.agent == second.agent
        np.testing.assert_array_equal(render(first, 96), render(second, 96))


def test_a_full_view_carries_nothing_that_it_does_not_show():
    views = [drawn(index)[0] for index in range(SCENES)]
    assert all(scene.carrying is None for scene in views if scene.view == "full")
    assert any(scene.carrying for scene in views if scene.view == "partial")
    share = np.mean([scene.view == "partial" for scene in views])
    assert 0.33 < share < 0.47
