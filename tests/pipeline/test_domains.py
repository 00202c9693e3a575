"""Domains and environments that a profile brings."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import domains, tasks
from pipeline.domains import get_domain, stage_of
from pipeline.errors import UserError
from pipeline.params import Params, load_params
from pipeline.tasks import get_task
from pipeline.types import Modality

TOYS = """
from pipeline.options import EnvOptions
from pipeline.types import Domain, Modality, Task

class ToyOptions(EnvOptions):
    size: int = 3

def tasks():
    kind = Modality("continuous", "discrete")
    return [Task(f"toys-{name}", "toys", name, kind, "toy") for name in ("ball", "rope")]

DOMAIN = Domain(name="toys", title="Toys", tasks=tasks, engines={}, options=ToyOptions)
"""


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    domains.bring({})
    tasks.bring(())


def profile(folder: Path, **more: Any) -> Params:
    groups = {name: {"collect": {"episodes": 1}} for name in domains.PUBLISHED_DOMAINS}
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump({"profile": "test", **groups, **more}))
    return load_params(path)


def test_an_unknown_domain_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown domain 'mujocco' \(did you mean 'mujoco'\?\)"):
        get_domain("mujocco")


def test_a_domain_comes_from_a_file_beside_the_profile(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "toys.py").write_text(TOYS)
    params = profile(tmp_path, domains={"toys": {"module": "mine/toys.py", "env": {"size": 4}}})
    assert params.tasks == ["toys-ball", "toys-rope"]
    assert params.env_of("toys-ball") == {"size": 4}
    assert params.rl_domains[-1] == "toys"
    assert params.domains_of("environments") == ["toys"]
    assert params.domains_of("mujoco") == ["mujoco"]
    assert get_domain("toys").title == "Toys"
    assert get_domain("toys") is get_domain("toys")
    assert domains.brought() == {"toys": str(tmp_path / "mine" / "toys.py")}
    profile(tmp_path)
    with pytest.raises(UserError, match="unknown task 'toys-ball'"):
        get_task("toys-ball")
    with pytest.raises(UserError, match="unknown domain 'toys'"):
        get_domain("toys")


def test_a_profile_may_take_some_of_its_tasks(tmp_path: Path) -> None:
    (tmp_path / "toys.py").write_text(TOYS)
    params = profile(tmp_path, domains={"toys": {"module": "toys.py", "tasks": ["toys-rope"]}})
    assert params.tasks == ["toys-rope"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import absent_package", "No module named 'absent_package'"),
        ("x = 1", r"has no DOMAIN = pipeline\.types\.Domain\(name='toys'"),
        (TOYS.replace('name="toys"', 'name="games"'), "has no DOMAIN"),
        ("def", "SyntaxError"),
    ],
)
def test_a_module_that_is_no_domain_is_one_line(tmp_path: Path, source: str, expected: str) -> None:
    (tmp_path / "toys.py").write_text(source)
    with pytest.raises(UserError, match=expected):
        profile(tmp_path, domains={"toys": {"module": "toys.py"}})


def test_what_cannot_be_brought_is_told(tmp_path: Path) -> None:
    for named, expected in (
        ({"toys": {"module": "absent.py"}}, "absent.py"),
        ({"toys": {"module": 3}}, "'domains.toys.module' is neither a file nor a module's name"),
        ({"toys": {}}, "no installed package offers this domain"),
        ({"atari": {"module": "toys.py"}}, "'atari' is the name of a domain of this project"),
    ):
        with pytest.raises(UserError, match=expected):
            profile(tmp_path, domains=named)
    (tmp_path / "toys.py").write_text(TOYS)
    with pytest.raises(UserError, match=r"unknown key 'domains\.toys\.env\.sise' \(did you mean"):
        profile(tmp_path, domains={"toys": {"module": "toys.py", "env": {"sise": 4}}})


def test_an_environment_of_gymnasium_becomes_a_task(tmp_path: Path) -> None:
    params = profile(
        tmp_path,
        environments={
            "cartpole": {"id": "CartPole-v1", "solved": 400, "max_episode_steps": 50},
            "taxi": {"id": "Taxi-v4", "title": "A taxi"},
        },
    )
    assert params.tasks == ["cartpole", "taxi"]
    assert params.domains_of("environments") == ["gymnasium"]
    pole, taxi = get_task("cartpole"), get_task("taxi")
    assert pole.modality == Modality("continuous", "discrete")
    assert (pole.time_limit, pole.expert_mean, pole.title) == (50, 400, "CartPole-v1")
    assert taxi.modality == Modality("discrete", "discrete", wide=True)
    assert (taxi.time_limit, taxi.expert_mean, taxi.title) == (200, 8, "A taxi")
    assert stage_of(taxi.domain) == "environments"


@pytest.mark.parametrize(
    ("name", "environment", "expected"),
    [
        ("pole", {"id": "CartPol-v1"}, "'environments.pole': .*CartPol-v1"),
        ("pole", {"id": "CartPole-v1", "kwarg": {}}, "unknown key 'environments.pole.kwarg'"),
        ("pole", {"id": "absent_package:X-v0"}, "absent_package"),
        ("atari-pong", {"id": "CartPole-v1"}, "'atari-pong' is the id of a published task"),
        ("The Pole", {"id": "CartPole-v1"}, "'environments.The Pole"),
    ],
)
def test_an_environment_that_cannot_be_a_task_is_told(
    tmp_path: Path, name: str, environment: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        profile(tmp_path, environments={name: environment})
