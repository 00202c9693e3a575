import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experts.appo.recipe import Training, make_config
from pipeline.domains import PUBLISHED_DOMAINS, get_domain
from pipeline.errors import UserError
from pipeline.params import Params, load_params
from pipeline.tasks import get_task, tasks_of

ROOT = Path(__file__).parent.parent.parent
PROFILES = sorted([*ROOT.glob("params.yaml"), *ROOT.glob("params/*.yaml")])
SMALL: dict[str, Any] = {
    "profile": "test",
    "mujoco": {"tasks": ["mujoco-pendulum"], "collect": {"episodes": 4}},
    "metaworld": {"tasks": ["metaworld-reach"], "collect": {"episodes": 4}},
    "babyai": {"collect": {"episodes": 4}},
    "atari": {"tasks": ["atari-pong"], "collect": {"steps": 1000}},
}


def write(folder: Path, value: Any) -> Path:
    path = folder / "params.yaml"
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value), encoding="utf8")
    return path


def changed(key: str, value: Any) -> dict[str, Any]:
    """The small profile with one value at a dotted key."""
    raw = copy.deepcopy(SMALL)
    *path, last = key.split(".")
    group = raw
    for part in path:
        group = group.setdefault(part, {})
    group[last] = value
    return raw


def complaint(path: Path) -> str:
    """The one line with which a parameter file is refused."""
    with pytest.raises(UserError) as error:
        load_params(path)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_a_small_profile_loads(tmp_path: Path) -> None:
    params = load_params(write(tmp_path, SMALL))
    assert params.tasks == ["mujoco-pendulum", "metaworld-reach", "atari-pong"]
    assert params.domain("atari").collect.steps == 1000


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_shipped_profile_loads(path: Path) -> None:
    assert load_params(path).tasks


def test_the_published_scale_has_every_task() -> None:
    params = load_params(ROOT / "params" / "paper.yaml")
    for name in PUBLISHED_DOMAINS:
        assert set(params.domain(name).tasks) == {task.id for task in tasks_of(name)}
    assert len(params.tasks) == 157


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("atari.tasks", ["atari-pongg"], "(did you mean 'atari-pong'?)"),
        ("atari.tasks", ["mujoco-ant"], "a task of another domain"),
        ("atari.tasks", ["atari-pong", "atari-pong"], "'atari.tasks': names a task twice"),
        ("atari.collect.step", 5, "unknown key 'atari.collect.step' (did you mean 'steps'?)"),
        ("atary", {}, "unknown key 'atary' (did you mean 'atari'?)"),
        ("mujoco.expert.stepss", 5, "unknown key 'mujoco.expert.stepss' (did you mean 'steps'?)"),
        ("mujoco.expert.steps", -5, "'mujoco.expert.steps'"),
        ("mujoco.collect.episodes", 0, "'mujoco.collect.episodes'"),
        ("mujoco.collect.test_fraction", 1.5, "'mujoco.collect.test_fraction'"),
        ("mujoco.collect.steps", 5, "needs exactly one of 'episodes' and 'steps'"),
        ("mujoco.expert.source", "trained", "mujoco.expert: source 'trained' is not one of train"),
        ("mujoco.expert.source", "bot", "source 'bot' is not one of train, shipped, hub:"),
        ("babyai.expert.source", "hub:", "source 'hub:' is not one of train, shipped, bot, hub:"),
        ("mujoco.expert.sources", {"mujoco-pendulum": "bot"}, "mujoco.expert: source 'bot'"),
        ("mujoco.env", {"goal_visible": True}, "unknown key 'mujoco.env.goal_visible'"),
        ("metaworld.env", {"goal_visible": 3}, "'metaworld.env.goal_visible'"),
        ("metaworld.env", {"engine": "minigrid"}, "engine is 'minigrid', not one of envpool, gym"),
        ("atari.task_env", {"atari-pongg": {}}, "(did you mean 'atari-pong'?)"),
        (
            "atari.task_env",
            {"atari-pong": {"max_episode_step": 3}},
            "'atari.task_env.atari-pong.max_episode_step' (did you mean 'max_episode_steps'?)",
        ),
        ("mujoco", "all", "'mujoco'"),
        ("seed", "zero", "'seed'"),
        ("mujoco.expert.steps", None, "'mujoco.expert.steps'"),
        ("jat.context", {"mujocco": 3}, "'jat.context.mujocco': names 'mujocco'"),
        ("jat.weights", {"atari-pongg": 2}, "(did you mean 'atari-pong'?)"),
        ("jat.learning_rate", float("inf"), "'jat.learning_rate': must be a finite number"),
        ("jat.learning_rate", float("nan"), "'jat.learning_rate': must be a finite number"),
        ("jat.learning_rate", "0.1", "must be a number (it is '0.1')"),
        ("jat.learning_rate", True, "must be a number (it is True)"),
        ("jat.shuffle", "yes", "'jat.shuffle': must be true or false (it is 'yes')"),
        ("jat.shuffle", 1, "'jat.shuffle': must be true or false (it is 1)"),
        ("jat.steps", 2.0, "'jat.steps': must be a whole number (it is 2.0)"),
        ("jat.steps", True, "'jat.steps': must be a whole number (it is True)"),
        ("jat.steps", 10**30, "'jat.steps'"),
        ("seed", 2**32, "'seed'"),
        ("profile", 3, "'profile': must be text (it is 3)"),
        ("atari.tasks", "atari-pong", "'atari.tasks': must be a list (it is 'atari-pong')"),
        ("atari.expert.task_steps", {"atari-pongg": 3}, "which is no task of 'atari' (did you"),
        ("atari.expert.recipe", {"gama": 0.9}, "no Sample Factory setting (did you mean 'gamma'?)"),
        ("jat.model", {"hiden_size": 3}, "is no field of JatConfig (did you mean 'hidden_size'?)"),
        ("jat.model", {"hidden_size": "64"}, "'jat.model.hidden_size' must be a whole number"),
    ],
)
def test_a_bad_value_is_named(tmp_path: Path, key: str, value: Any, expected: str) -> None:
    assert expected in complaint(write(tmp_path, changed(key, value)))


def test_an_unknown_key_of_a_corpus_is_named(tmp_path: Path) -> None:
    message = complaint(write(tmp_path, changed("text", [{"langauge": "en"}])))
    assert "unknown key 'text.0.langauge' (did you mean 'language'?)" in message


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    raw = copy.deepcopy(SMALL)
    del raw["atari"]["collect"]
    assert "key 'atari.collect' is missing" in complaint(write(tmp_path, raw))


@pytest.mark.parametrize(
    "text", ["a: [1", "a: b: c", "\t- x", "? {a: 1}: 2", "!!python/object:x {}"]
)
def test_broken_yaml_is_one_line(tmp_path: Path, text: str) -> None:
    assert "is not YAML" in complaint(write(tmp_path, text))


@pytest.mark.parametrize("text", ["", "just words", "[1, 2]", "3"])
def test_a_file_without_a_mapping_is_one_line(tmp_path: Path, text: str) -> None:
    assert "must hold a mapping" in complaint(write(tmp_path, text))


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    assert "no parameter file" in complaint(tmp_path / "params.yml")
    assert "--params" in complaint(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00a")
    assert "is not YAML" in complaint(tmp_path / "binary.yaml")


def test_a_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    text = yaml.safe_dump(SMALL)
    line = text[: text.index("mujoco-pendulum")].count("\n") + 1
    path = write(tmp_path, text.replace("mujoco-pendulum", "mujoco-pendulumm"))
    assert complaint(path).startswith(f"{path}:{line}: 'mujoco.tasks.0': unknown")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", ":3: key 'a' stands twice, in lines 1 and 3: remove one"),
        ("a: {b: 1, b: 2}\n", ":1: key 'a.b' stands twice"),
        ("a: &x [*x]\n", ":1 is not YAML: a value contains itself"),
        ("a: &x {<<: *x}\n", ":1 is not YAML: a value contains itself"),
        ("a: " + "[" * 1000 + "\n", ":1 is not YAML: values are nested more than"),
        ("a: 1\nb: " + "9" * 5000, ":2 is not YAML: a number has more than"),
        ("a: !!int x\n", ":1 is not YAML: 'x' is no int"),
        ("a: 2001-99-99\n", ":1 is not YAML: '2001-99-99' is no timestamp"),
        ('a: "\\e[31m"\n', "has unprintable characters"),
        (
            "a: &a [x, x, x, x, x, x, x, x]\n"
            + "".join(
                f"{b}: &{b} [{', '.join([f'*{a}'] * 8)}]\n"
                for a, b in zip("abcdefg", "bcdefgh", strict=True)
            ),
            "aliases make it too large",
        ),
        ("a: b\n" * 10**5, "has more than 256 KiB: it is no parameter file"),
    ],
    ids=lambda text: text[:12].strip(),
)
def test_yaml_that_misleads_or_explodes_is_refused(
    tmp_path: Path, text: str, expected: str
) -> None:
    assert expected in complaint(write(tmp_path, text))


def test_an_alias_may_be_merged_and_overridden(tmp_path: Path) -> None:
    text = yaml.safe_dump({key: SMALL[key] for key in ("profile", "metaworld", "babyai", "atari")})
    text += "mujoco:\n  collect: &few {episodes: 4, slots: 2}\n"
    text += "gymnasium:\n  collect: {<<: *few, slots: 3}\n"
    params = load_params(write(tmp_path, text))
    assert (params.mujoco.collect.slots, params.gymnasium.collect.slots) == (2, 3)


NAMES = st.sampled_from(
    ["profile", "seed", "mujoco", "atari", "text", "vision", "tasks", "collect"]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates()
)
VALUES = st.recursive(
    st.one_of(SCALARS, st.sampled_from(["atari-pong", "train", "hub:"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(NAMES, SCALARS), inner, max_size=3)
    ),
    max_leaves=8,
)


def paths(model: Any, prefix: str = "") -> list[str]:
    """The dotted keys of the parameters, to three levels."""
    found = []
    for name, field in model.model_fields.items():
        found.append(prefix + name)
        if hasattr(field.annotation, "model_fields"):
            found += paths(field.annotation, f"{prefix}{name}.")
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    raw=st.one_of(
        st.dictionaries(st.one_of(NAMES, SCALARS), VALUES, max_size=4),
        st.builds(changed, st.sampled_from(paths(Params)), VALUES),
        st.builds(
            lambda group, key, value: changed(group, {key: value}),
            st.sampled_from(["mujoco", "atari.expert", "atari.collect", "babyai.env"]),
            st.one_of(NAMES, SCALARS),
            VALUES,
        ),
    )
)
def test_any_mapping_loads_or_is_refused_in_one_line(
    raw: dict[Any, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.getbasetemp(), yaml.safe_dump(raw, allow_unicode=True))
    refusal = ""
    try:
        load_params(path)
    except UserError as error:
        refusal = str(error)
    assert "\n" not in refusal


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_loads_or_is_refused(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(UserError):
        load_params(write(tmp_path_factory.getbasetemp(), text.encode("utf8", "replace").decode()))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_accepted(path: Path, tmp_path: Path) -> None:
    params = load_params(path)
    for name in ("mujoco", "metaworld", "atari"):
        domain, expert = get_domain(name), params.domain(name).expert
        trained = [task for task in params.domain(name).tasks if expert.source_of(task) == "train"]
        assert domain.recipe is not None
        for task in trained[:2]:
            recipe = {**domain.recipe(get_task(task)), **expert.recipe_of(task)}
            steps = expert.steps_of(task)
            config = make_config(
                Training(task, steps, expert.envs_of(task), recipe, {}, 0, tmp_path)
            )
            assert config.train_for_env_steps == steps
