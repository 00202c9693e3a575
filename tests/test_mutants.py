"""The kept mutants fit the code, and what tries them tells a killed one from a survivor."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from benchmarks import mutate

ROOT = Path(__file__).parents[1]
MUTANTS = mutate.read_mutants(ROOT)


def test_there_are_many_and_each_has_a_name_of_its_own() -> None:
    assert len(MUTANTS) >= 60
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_one_place_and_names_tests_that_there_are(mutant: mutate.Mutant) -> None:
    changed = mutant.applied(ROOT)
    before = (ROOT / mutant.file).read_text(encoding="utf8")
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(before)), "it changes nothing"
    assert mutant.tests
    for test in mutant.tests:
        path, _, node = test.partition("::")
        assert (ROOT / path).is_file(), f"{test}: no such file"
        name = node.partition("[")[0]
        if name:
            text = (ROOT / path).read_text(encoding="utf8")
            assert re.search(rf"^def {name}\(", text, re.MULTILINE), f"{test}: no such test"


MUTANT = """
[[mutant]]
name = "{name}"
file = "double.py"
old = "2 * x"
new = "{new}"
tests = ["test_double.py"]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one function, and one test of it, that git knows."""
    (tmp_path / "double.py").write_text("def double(x):\n    return 2 * x\n")
    (tmp_path / "test_double.py").write_text(
        "from double import double\n\n\ndef test_double():\n    assert double(2) == 4\n"
    )
    (tmp_path / mutate.FOLDER).mkdir(parents=True)
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def keep(project: Path, *mutants: tuple[str, str]) -> None:
    text = "".join(MUTANT.format(name=name, new=new) for name, new in mutants)
    (project / mutate.FOLDER / "a.toml").write_text(text)


def test_killed_ones_are_told_from_survivors_and_broken_ones(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(project, ("three times", "3 * x"), ("a square", "x * x"), ("no code", "2 *"))
    assert mutate.main([], project) == 1
    printed = capsys.readouterr().out
    assert re.search(r"^killed .* double\.py: three times$", printed, re.MULTILINE)
    assert re.search(r"^SURVIVED .* double\.py: a square$", printed, re.MULTILINE)
    assert re.search(r"^BROKEN .* double\.py: no code$", printed, re.MULTILINE)
    assert "3 mutants: 1 killed, 1 SURVIVED, 1 BROKEN" in printed
    assert (project / "double.py").read_text().endswith("2 * x\n")
    keep(project, ("three times", "3 * x"))
    assert mutate.main(["--only", "three"], project) == 0
    assert mutate.main(["--only", "four"], project) == 1, "nothing is no success"


def test_a_stale_list_and_failing_tests_are_told(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(project, ("three times", "3 * x"))
    (project / "test_double.py").write_text("def test_double():\n    assert False\n")
    assert mutate.main([], project) == 1
    printed = capsys.readouterr().out
    assert re.search(r"^BROKEN .* double\.py: three times$", printed, re.MULTILINE)
    assert "test_double.py fails without a mutant" in printed
    (project / "double.py").write_text("def double(x):\n    return x + x\n")
    assert mutate.main([], project) == 2
    expected = "error: mutant 'three times' is stale: its old text occurs 0 times in double.py"
    assert expected in capsys.readouterr().err
