"""Everything may import ``pipeline``; the other packages never import each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "experts", "dataset_builder", "trainer")
HUB_FILES = ("configuration_jat.py", "modeling_jat.py", "processing_jat.py")
"""Files that the Hub serves alone: Transformers loads them with their relative siblings."""


def imports(source: str) -> list[tuple[int, str]]:
    """(relative level, module) of every import in a file, those inside functions too."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or ""))
    return found


def foreign(source: str, package: str) -> list[str]:
    """The imports of a file of ``package`` that the rule forbids."""
    allowed = {"pipeline", package}
    return [
        module
        for level, module in imports(source)
        if level == 0 and module.split(".")[0] in {*PACKAGES, "tests", "benchmarks"} - allowed
    ]


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_depend_on_the_contract_alone(package: str) -> None:
    assert files(package)
    broken = {
        str(path.relative_to(ROOT)): foreign(path.read_text(encoding="utf8"), package)
        for path in files(package)
    }
    assert {path: modules for path, modules in broken.items() if modules} == {}


@pytest.mark.parametrize("source", ["import trainer.run", "def f():\n    from trainer import run"])
def test_the_rule_sees_hidden_imports(source: str) -> None:
    assert foreign(source, "experts")
    assert foreign(source, "pipeline")
    assert not foreign(source, "trainer")


@pytest.mark.parametrize("package", PACKAGES)
def test_relative_imports_stay_inside(package: str) -> None:
    for path in files(package):
        depth = len(path.relative_to(ROOT).parts) - 1
        levels = [level for level, _ in imports(path.read_text(encoding="utf8"))]
        assert max(levels, default=0) <= depth, path


@pytest.mark.parametrize("name", HUB_FILES)
def test_hub_files_work_without_this_project(name: str) -> None:
    seen, todo = set(), [name]
    while todo:
        path = ROOT / "trainer" / "model" / todo.pop()
        seen.add(path.name)
        for level, module in imports(path.read_text(encoding="utf8")):
            assert level or module.split(".")[0] not in PACKAGES, f"{path.name} imports {module}"
            if level:
                assert level == 1, f"{path.name} imports from above its folder"
                assert "." not in module, f"{path.name} imports {module}"
                if f"{module}.py" not in seen:
                    todo.append(f"{module}.py")
