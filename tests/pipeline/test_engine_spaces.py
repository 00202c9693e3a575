import itertools

import cv2
import gymnasium
import minigrid  # noqa: F401  registers its environments
import numpy as np
import pytest
from gymnasium.spaces import (
    Box,
    Dict,
    Discrete,
    Graph,
    MultiBinary,
    MultiDiscrete,
    OneOf,
    Sequence,
    Text,
    Tuple,
    flatten,
)  # fmt: skip
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engines.minigrid import columns
from pipeline.engines.spaces import (
    ActionLayout,
    ObservationLayout,
    first_stack,
    grey_frame,
    next_stack,
)  # fmt: skip
from pipeline.errors import UserError

PICTURE = Box(0, 255, (30, 40, 3), np.uint8)
POSITION = Box(-1, 1, (2, 3), np.float64)


def layout(space) -> ObservationLayout:
    return ObservationLayout.from_space(space)


@pytest.mark.parametrize(
    ("space", "kind", "shape", "dtype"),
    [
        (POSITION, "continuous", (6,), np.float32),
        (Box(0, 1, (), np.float32), "continuous", (1,), np.float32),
        (Box(-5, 5, (3,), np.int16), "continuous", (3,), np.float32),
        (Box(0, 256, (3,), np.int64), "continuous", (3,), np.float32),
        (Discrete(256, start=-3), "discrete", (1,), np.uint8),
        (Discrete(500), "discrete", (1,), np.int64),
        (MultiDiscrete([[2, 3], [4, 5]]), "discrete", (4,), np.uint8),
        (MultiBinary((2, 5)), "discrete", (10,), np.uint8),
        (Box(0, 255, (7, 7, 3), np.uint8), "discrete", (147,), np.uint8),
        (Box(0, 9, (30, 40), np.int32), "discrete", (1200,), np.uint8),
        (Box(0, 255, (84, 84, 12), np.uint8), "discrete", (84 * 84 * 12,), np.uint8),
        (PICTURE, "image", (4, 84, 84), np.uint8),
        (Box(0, 255, (3, 16, 16), np.uint8), "image", (4, 84, 84), np.uint8),
        (Box(0, 255, (200, 160), np.uint8), "image", (4, 84, 84), np.uint8),
        (Box(0, 255, (20, 20, 1), np.uint8), "image", (4, 84, 84), np.uint8),
        (Dict(words=Text(9), view=PICTURE), "image", (4, 84, 84), np.uint8),
        (Dict(a=Discrete(3), b=MultiBinary(2), words=Text(9)), "discrete", (3,), np.uint8),
        (Tuple((Discrete(300), MultiBinary(2))), "discrete", (3,), np.int64),
        (Dict(a=Discrete(3), b=POSITION), "continuous", (9,), np.float32),
    ],
)
def test_every_space_has_its_kind_and_rows_that_lie_in_the_row_space(space, kind, shape, dtype):
    made = layout(space)
    assert (made.kind, made.observation_space.shape) == (kind, shape)
    assert made.observation_space.dtype == dtype
    assert made.column == f"{kind}_observations"
    space.seed(0)
    row = made.encode(space.sample())
    row = first_stack(row) if kind == "image" else row
    assert row.dtype == dtype
    assert made.observation_space.contains(row)
    assert made.nvec.shape == (shape if kind == "discrete" else (0,))


def test_integers_count_from_zero_in_c_order() -> None:
    made = layout(MultiDiscrete([[2, 3], [4, 5]], start=[[1, 0], [-7, 2]]))
    assert made.encode(np.array([[2, 1], [-7, 6]])).tolist() == [1, 1, 0, 4]
    assert made.nvec.tolist() == [2, 3, 4, 5]
    assert layout(Discrete(500, start=10)).encode(np.int64(509)).tolist() == [499]


def test_leaves_come_in_the_order_of_the_space_and_nested_ones_depth_first() -> None:
    inner = Dict(z=Discrete(4), a=Discrete(5))  # Gymnasium sorts a dict, but not keywords
    space = Tuple((Discrete(3), Dict({"y": inner, "b": Discrete(6)}), Discrete(7)))
    observation = (1, {"y": {"z": 3, "a": 4}, "b": 5}, 6)
    assert layout(space).encode(observation).tolist() == [1, 5, 3, 4, 6]


def test_texts_are_joined_and_leave_the_numbers_alone() -> None:
    space = Dict(a=Text(9), b=Discrete(3), c=Tuple((Text(9),)))
    made = layout(space)
    observation = {"a": "go", "b": 2, "c": ("there",)}
    assert made.text(observation) == "go\nthere"
    assert made.encode(observation).tolist() == [2]
    assert layout(Discrete(3)).text(0) is None


def test_mixed_leaves_are_flattened_as_gymnasium_does() -> None:
    space = Dict(a=Discrete(3, start=5), b=POSITION, c=MultiDiscrete([2, 3]), d=MultiBinary(2))
    space.seed(1)
    for _ in range(5):
        observation = space.sample()
        expected = flatten(space, observation).astype(np.float32)
        assert np.array_equal(layout(space).encode(observation), expected)


def test_minigrid_is_what_the_project_calls_babyai() -> None:
    env = gymnasium.make("MiniGrid-Empty-5x5-v0")
    made = layout(env.observation_space)
    assert (made.kind, made.observation_space.shape) == ("discrete", (148,))
    env.reset(seed=0)
    for action in (2, 1, 2, 2, 0):
        observation = env.step(action)[0]
        expected = columns([observation])
        assert np.array_equal(made.encode(observation), expected["discrete_observations"][0])
        assert made.encode(observation).dtype == expected["discrete_observations"].dtype
        assert made.text(observation) == expected["text_observations"][0]


@pytest.mark.parametrize(
    "space",
    [
        Graph(Box(0, 1, (2,)), None),
        Sequence(Discrete(3)),
        OneOf((Discrete(3), Discrete(4))),
        Text(9),
        Dict({}),
        Box(0, 1, (0,)),
        Dict(words=Text(9)),
        Dict(view=PICTURE, speed=POSITION),
        Tuple((PICTURE, PICTURE)),
        Dict(a=Discrete(10**9), b=POSITION),
    ],
)
def test_other_spaces_are_refused_in_one_line_that_names_them(space) -> None:
    with pytest.raises(UserError, match="not supported") as caught:
        layout(space)
    assert str(space)[:20] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_frame_is_grey_by_luma_and_resized_by_area() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (210, 160, 3), np.uint8)
    luma = (picture @ [0.299, 0.587, 0.114]).round().astype(np.uint8)
    expected = cv2.resize(luma, (84, 84), interpolation=cv2.INTER_AREA)
    frame = grey_frame(picture)
    assert (frame.shape, frame.dtype) == ((84, 84), np.uint8)
    assert np.abs(frame.astype(int) - expected).max() <= 1
    alpha = np.concatenate([picture, picture[..., :1]], axis=-1)
    for same in (picture.transpose(2, 0, 1), alpha, picture[::-1][::-1]):
        assert np.array_equal(grey_frame(same), frame)
    for grey in (luma, luma[..., None], luma[None]):
        assert np.array_equal(grey_frame(grey), expected)


def test_of_frames_that_are_stacked_already_the_newest_counts() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 84, 84), np.uint8)
    assert layout(Box(0, 255, (4, 84, 84), np.uint8)).kind == "image"
    assert np.array_equal(grey_frame(frames), frames[-1])


def test_a_stack_is_filled_at_a_reset_and_then_slides() -> None:
    frames = [np.full((84, 84), k, np.uint8) for k in range(3)]
    stack = first_stack(frames[0])
    for frame in frames[1:]:
        stack = next_stack(stack, frame)
    assert stack[:, 0, 0].tolist() == [0, 0, 1, 2]


counts = st.lists(st.integers(1, 5), min_size=1, max_size=4)
starts = st.integers(-9, 9)


@st.composite
def discrete_spaces(draw):
    which = draw(st.sampled_from(["discrete", "multi", "binary"]))
    if which == "discrete":
        return Discrete(draw(st.integers(1, 2000)), start=draw(starts))
    if which == "binary":
        return MultiBinary(draw(st.sampled_from([1, 3, (2, 3), 10])))
    nvec = draw(counts)
    return MultiDiscrete(nvec, start=[draw(starts) for _ in nvec])


@settings(deadline=None, max_examples=60)
@given(discrete_spaces(), st.data())
def test_discrete_actions_survive_the_round_trip(space, data) -> None:
    actions = ActionLayout.from_space(space)
    action = data.draw(st.integers(0, int(actions.action_space.n) - 1))
    own = actions.decode(action)
    assert space.contains(own)
    assert actions.encode(own) == action


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from([(), (3,), (2, 3)]),
    st.sampled_from([np.float32, np.float64, np.float16]),
    st.integers(0, 2**31),
)
def test_continuous_actions_survive_the_round_trip(shape, dtype, seed) -> None:
    space = Box(-0.1, 0.3, shape, dtype, seed=seed)
    actions = ActionLayout.from_space(space)
    own = space.sample()
    assert actions.encode(own).dtype == np.float32
    assert np.allclose(actions.decode(actions.encode(own)), own, rtol=1e-6)
    for extreme in (-7, 7):
        flat = np.full((1, actions.action_space.shape[0]), extreme, np.float64)
        applied = actions.applied(flat)
        assert applied.dtype == np.float32
        assert actions.action_space.contains(applied[0])
        assert space.contains(actions.decode(applied[0]))


def test_combined_actions_are_numbered_as_numpy_numbers_an_array() -> None:
    space = MultiDiscrete([[2, 3], [1, 4]], start=[[0, 5], [-2, 1]])
    actions = ActionLayout.from_space(space)
    assert actions.action_space == Discrete(24)
    for number in range(24):
        digits = np.reshape(np.unravel_index(number, (2, 3, 1, 4)), (2, 2))
        assert np.array_equal(actions.decode(number), digits + space.start)
    binary = ActionLayout.from_space(MultiBinary(3))
    every = [tuple(binary.decode(number).tolist()) for number in range(8)]
    assert every == list(itertools.product((0, 1), repeat=3))
    assert binary.decode(1).dtype == np.int8


def test_actions_are_clipped_and_numbers_checked() -> None:
    box = ActionLayout.from_space(Box(np.array([-1, 0]), np.array([1, np.inf]), dtype=np.float64))
    assert box.applied(np.array([[-3.0, 99.0], [0.5, -1.0]])).tolist() == [[-1, 99], [0.5, 0]]
    number = ActionLayout.from_space(Discrete(3, start=1))
    assert number.applied(np.array([0, 2], np.int32)).dtype == np.int64
    for wrong in (-1, 3):
        with pytest.raises(ValueError, match=r"within \[0, 3\)"):
            number.applied(np.array([0, wrong]))


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (Box(0, 9, (2,), np.int64), "Box of floats"),
        (Dict(a=Discrete(2)), "Dict"),
        (Tuple((Discrete(2),)), "Tuple"),
        (MultiBinary(11), "2048 combinations, more than the 1024"),
        (MultiDiscrete([2**40, 2**40]), "combinations"),
    ],
)
def test_other_actions_are_refused_in_one_line(space, words) -> None:
    with pytest.raises(UserError, match=words) as caught:
        ActionLayout.from_space(space)
    assert "\n" not in str(caught.value)
