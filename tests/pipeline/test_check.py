"""The check of a whole profile: all mistakes at once, each with its line."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import check
from pipeline.check import find_mistakes, summary
from pipeline.errors import LINE, UserError
from pipeline.params import load_params

ROOT = Path(__file__).parents[2]
GOOD = """\
profile: test
mujoco:
  tasks: [mujoco-pendulum, mujoco-ant]
  env: {}
  expert:
    source: shipped
    sources: {}
    recipe: {}
  collect: {episodes: 4}
metaworld: {tasks: [metaworld-reach], expert: {source: scripted}, collect: {episodes: 4}}
babyai: {tasks: [babyai-go-to-obj], expert: {source: bot}, collect: {episodes: 4}}
atari: {tasks: [], collect: {steps: 1000}}
text: []
vision: []
jat:
  model: {}
publish: {to: "folder:out"}
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def lines(*changes: tuple[str, str]) -> list[str]:
    """The mistakes of the good profile with some of its text replaced, less the file's name."""
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    Path("params.yaml").write_text(text)
    told = find_mistakes("params.yaml")[1]
    assert all(line.startswith("params.yaml:") for line in told)
    return [line.removeprefix("params.yaml:") for line in told]


def test_a_good_profile_has_no_mistakes() -> None:
    assert lines() == []
    assert "everything is in order" in summary("params.yaml", load_params("params.yaml"))


@pytest.mark.parametrize("path", sorted([ROOT / "params.yaml", *ROOT.glob("params/*.yaml")]))
def test_every_shipped_profile_is_in_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "disk_free", lambda: 1e15)
    assert find_mistakes(path)[1] == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("sources: {}", "sources: {mujoco-antt: shipped}", "7: 'mujoco.expert.sources' names"),
        ("sources: {}", "sources: {mujoco-ant: scripted}", "7: mujoco.expert: source 'scripted'"),
        ("sources: {}", "sources: {mujoco-ant: 'file:no'}", "7: the expert source 'file:no' of"),
        ("sources: {}", "sources: {mujoco-ant: 'hub:a/b'}", "7: mujoco.expert: source 'hub:a/b'"),
        ("sources: {}", "task_steps: {mujoco-antt: 9}", "7: 'mujoco.expert.task_steps' names"),
        ("sources: {}", "task_envs: {metaworld-reach: 9}", "7: 'mujoco.expert.task_envs' names"),
        ("sources: {}", "task_mode: {mujoco-antt: argmax}", "7: 'mujoco.expert.task_mode' names"),
        ("sources: {}", "task_recipe: {x: {}}", "7: 'mujoco.expert.task_recipe' names 'x'"),
        ("tasks: [mujoco-pendulum, mujoco-ant]", "tasks: [mujoco-humanoid]", "6: no expert of"),
        ("source: bot", "source: train", "11: babyai-go-to-obj cannot be trained"),
        ("recipe: {}", "recipe: {gama: 1}", "is no Sample Factory setting (did you mean 'gamma'?)"),
        ("recipe: {}", "recipe: {gamma: yes}", "8: 'mujoco.expert.recipe.gamma' must be a number"),
        ("recipe: {}", "recipe: {rollout: 1.5}", "'mujoco.expert.recipe.rollout' must be a whole"),
        ("recipe: {}", "recipe: {rollout: 0}", "recipe.rollout' must be at least 1"),
        ("recipe: {}", "recipe: {use_rnn: true}", "recipe.use_rnn' is fixed to False: remove it"),
        ("recipe: {}", "recipe: {seed: 3}", "recipe.seed' is fixed to \"the run's\""),
        ("recipe: {}", "recipe: {nonlinearity: gelu}", "nonlinearity' must be one of elu, relu"),
        ("recipe: {}", "recipe: {encoder_mlp_layers: [a]}", "must hold a whole number each"),
        ("env: {}", "env: {goal_visible: true}", "4: unknown key 'mujoco.env.goal_visible'"),
        ("env: {}", "env: {engine: minigrid}", "4: mujoco.env.engine is 'minigrid', not one of"),
        ("env: {}", "env: {max_episode_steps: '9'}", "4: 'mujoco.env.max_episode_steps': must be"),
        ("env: {}", "env: {simulator: mujoco 1.2.3}", "defined on mujoco 1.2.3, but engine"),
        ("model: {}", "model: {hidden_sice: 1}", "16: 'jat.model.hidden_sice' is no field"),
        ("model: {}", "model: {hidden_size: 190}", "hidden_size=190 must be a multiple of num"),
        ("model: {}", "model: {num_layers: 3}", "16: 'jat.model.attention_types' must be like"),
        ("model: {}", "model: {image_size: 100}", "'jat.model.patch_size' image_size=100 must"),
        ("model: {}", "model: {num_heads: 0}", "'jat.model.num_heads' must be at least 1"),
        ("model: {}", "tokenizer: a/b/c", "16: the tokenizer 'a/b/c' is neither"),
        ("model: {}", "report_to: [trackio]", "16: 'trackio' is not installed"),
        ("folder:out", "hub:me", "17: 'hub:me' is not hub:<owner>/<name>"),
        ("text: []", "text: [{name: a, source: 'files:no'}]", "13: there is no file 'no' for 'a'"),
        ("text: []", "text: [{name: a, lid_model: lid.bin}]", "13: 'lid_model' of 'a': no file"),
        ("text: []", "text: [{name: a, kenlm_model: en.x}]", "13: 'kenlm_model' of 'a': no file"),
        ("text: []", "text: [{name: a, source: 'hub:a b'}]", "13: 'hub:a b' is not hub:<owner>"),
        ("text: []", "text: [{name: a}, {name: a}]", "13: 'text.1.name': 'text.0' has this name"),
        ("text: []", "text: [{name: mujoco-ant}]", "'text.0.name': the task 'mujoco-ant' has"),
        (
            "vision: []",
            "vision: [{name: a, source: 'files:no', train: 1, test: 1}]",
            "14: there is no 'no/captions.jsonl' for 'a'",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line(old: str, new: str, expected: str) -> None:
    told = lines((old, new))
    assert any(expected in line for line in told), told


def test_all_mistakes_are_told_at_once() -> None:
    told = lines(
        ("profile: test", "profile: 3"),
        ("source: shipped", "sourse: shipped"),
        ("recipe: {}", "recipe: {gama: 1, gamma: x}"),
        ("source: scripted", "source: bot"),
        ("{steps: 1000}", "{step: 1000}"),
        ("text: []", "text: []\ntext: []"),
        ("model: {}", "model: {hidden_size: 190}\n  weights: {mujocco: 1}"),
        ("folder:out", "ftp:out"),
    )
    numbers = [int(line.split(":")[0]) for line in told]
    assert numbers == sorted(numbers)
    expected = (
        "'profile': must be text", "unknown key 'mujoco.expert.sourse'", "recipe.gama' is no",
        "recipe.gamma' must be a number", "source 'bot'", "unknown key 'atari.collect.step'",
        "key 'text' stands twice, in lines 13 and 14", "hidden_size=190", "names 'mujocco'",
        "'publish.to'",
    )  # fmt: skip
    for words in expected:
        assert any(words in line for line in told), (words, told)


def test_too_little_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "disk_free", lambda: 10.0)
    (line,) = lines()
    assert line.startswith("1: the profile's data needs about")


def test_a_module_that_cannot_be_imported_is_told_beside_other_mistakes() -> None:
    Path("own.py").write_text("raise RuntimeError('boom')\n")
    text = GOOD.replace("env: {}", "env: {engine: x}") + "domains: {own: {module: own.py}}\n"
    Path("params.yaml").write_text(text)
    told = find_mistakes("params.yaml")[1]
    assert any("boom" in line and ":18:" in line for line in told), told
    assert any("engine is 'x'" in line for line in told)


def test_lines_are_bounded() -> None:
    (line,) = lines(("env: {}", f"env: {{engine: {'x' * 5000}}}"))
    assert len(line) < LINE


def test_the_program_tells_all_and_ends_with_2() -> None:
    Path("params.yaml").write_text(GOOD.replace("shipped", "shiped") + "x: 1\n")
    command = [sys.executable, "-m", "pipeline.check"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert time.monotonic() - start < 30
    assert done.returncode == 2
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error"] * 2
    Path("params.yaml").write_text(GOOD)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0
    assert "everything is in order" in done.stdout


def test_nothing_heavy_is_imported() -> None:
    program = (
        "import sys\nfrom pipeline.check import find_mistakes\n"
        f"find_mistakes({str(ROOT / 'params.yaml')!r})\n"
        "print([name for name in ('torch', 'ray', 'transformers', 'datasets', 'sample_factory')"
        " if name in sys.modules])"
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_a_file_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="no parameter file"):
        find_mistakes("nowhere.yaml")
