from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pipeline import published, tasks
from pipeline.domains.metaworld import REFERENCE
from pipeline.errors import UserError
from pipeline.tasks import all_tasks, get_task, tasks_of
from pipeline.types import Modality, Task

SCORES = ("random_mean", "expert_mean", "expert_std", "human_mean")
BALL = Task("ball", "toys", "Ball", Modality("continuous", "discrete"), "toy")


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    tasks.bring(())


def test_the_157_are_known_by_their_ids() -> None:
    counts = Counter(task.domain for task in all_tasks().values())
    assert counts == {"atari": 57, "babyai": 39, "metaworld": 50, "mujoco": 11}
    assert all(task.id == id and id.startswith(task.domain) for id, task in all_tasks().items())
    assert get_task("mujoco-ant") in tasks_of("mujoco")


def test_a_misspelt_id_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'mujoco-aunt' \(did you mean 'mujoco-ant'\?\)"):
        get_task("mujoco-aunt")


def test_misprinted_reference_scores_are_corrected_and_no_others() -> None:
    assert get_task("atari-tennis").human_mean == -8.3
    assert get_task("atari-battlezone").random_mean == 2360
    found = {}
    for name in ("mujoco", "metaworld", "babyai", "atari"):
        for row in published.table(name, corrected=False):
            task = get_task(row["id"])
            changed = {key: getattr(task, key) for key in SCORES if getattr(task, key) != row[key]}
            if changed:
                found[task.id] = changed
    assert found == published.CORRECTIONS


def test_the_modality_of_a_task_is_that_of_its_data() -> None:
    assert get_task("mujoco-ant").modality.observation_column == "continuous_observations"
    assert get_task("metaworld-reach").modality.success
    assert get_task("babyai-go-to").modality.missions
    assert get_task("babyai-go-to").modality.action_column == "discrete_actions"
    assert get_task("atari-pong").modality.observation_column == "image_observations"


@pytest.mark.parametrize(
    ("id", "limit"),
    [("mujoco-ant", 1000), ("mujoco-reacher", 50), ("mujoco-pusher", 100),
     ("metaworld-hammer", 100), ("metaworld-reach", 100),
     ("atari-pong", 27_000), ("atari-montezumarevenge", 4500)],
)  # fmt: skip
def test_time_limits_are_in_agent_steps(id: str, limit: int) -> None:
    assert get_task(id).time_limit == limit


def test_what_envpool_simulates_otherwise_is_played_by_meta_worlds_own_package() -> None:
    engines = {task.id: task.engine for task in tasks_of("metaworld")}
    assert {id for id, engine in engines.items() if engine == "gymnasium"} == REFERENCE
    assert engines["metaworld-hammer"] == "gymnasium"
    assert engines["metaworld-reach"] == "envpool"


def test_what_is_brought_is_known_until_something_else_is() -> None:
    tasks.bring([BALL])
    assert get_task("ball") is BALL
    assert tasks_of("toys") == [BALL]
    assert tasks.brought() == (BALL,)
    assert len(all_tasks()) == 158
    with pytest.raises(UserError, match="did you mean 'ball'"):
        get_task("bal")
    rope = replace(BALL, id="rope")
    tasks.bring([rope])
    assert tasks_of("toys") == [rope]
    with pytest.raises(UserError, match="unknown task 'ball'"):
        get_task("ball")


def test_a_published_id_is_taken() -> None:
    with pytest.raises(UserError, match="'atari-pong' is the id of a published task"):
        tasks.bring([BALL, replace(BALL, id="atari-pong")])
    assert tasks.brought() == ()
    assert get_task("atari-pong").domain == "atari"
