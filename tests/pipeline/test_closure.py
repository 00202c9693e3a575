"""Digests of code change with what decides a result, and with nothing else."""

import sys
import textwrap
from pathlib import Path

import pytest

from pipeline import closure, domains, python_source

BEFORE = '''
"""Says what it is."""
import math
from pipeline.seeds import sequence
from pipeline.errors import UserError
from pipeline.stage import log

LIMIT = 3  # a comment
UNUSED = 1


class Box:
    """A box."""

    def __init__(self, n):
        self.n = n

    def size(self):
        return self.n + LIMIT

    def colour(self):
        return "red"


def inner(x):
    return x * math.pi


def other(x):
    return x


def start(n: int):
    """Begin."""
    log.info("started with %d", n)
    if n < 0:
        raise UserError("too small")
    return inner(Box(n).size()), sequence(n)
'''


@pytest.fixture
def digest_of(tmp_path):
    """The digest of ``start`` in a module with the given source."""

    def digest(source: str) -> str:
        path = tmp_path / "code_of_mine.py"
        path.write_text(textwrap.dedent(source))
        closure.forget()
        domains.bring({"mine": str(path)})
        return closure.digest(f"{domains.module_name('mine')}:start")

    yield digest
    domains.bring({})
    closure.forget()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a comment", "# another one"),
        ('"""Begin."""', '"""Start, in other words."""'),
        ('"""Says what it is."""', ""),
        ("started with", "began with"),
        ("too small", "less than nothing"),
        ("return inner(Box(n).size()), s", "return inner(\n        Box(n).size()\n    ), s"),
        ("UNUSED = 1", "UNUSED = 2"),
        ('return "red"', 'return "green"'),
        ("def other(x):\n    return x", "def other(x):\n    return -x"),
    ],
)  # fmt: skip
def test_what_decides_nothing_changes_nothing(digest_of, old, new):
    assert old in BEFORE
    assert digest_of(BEFORE.replace(old, new)) == digest_of(BEFORE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("self.n + LIMIT", "self.n - LIMIT"),
        ("self.n = n", "self.n = 2 * n"),
        ("math.pi", "math.e"),
        ("if n < 0", "if n <= 0"),
        ("sequence(n)\n", "sequence(n + 1)\n"),
        ("from pipeline.seeds import sequence", "from pipeline.seeds import env_seeds as sequence"),
        ("class Box:", "class Box(math.Base):"),
        ("import math\n", "import cmath as math\n"),
    ],
)
def test_what_decides_the_result_changes_the_digest(digest_of, old, new):
    assert old in BEFORE
    assert digest_of(BEFORE.replace(old, new)) != digest_of(BEFORE)


def names(*roots: closure.Root) -> set[str]:
    return {f"{module}:{name}" for module, name in closure.follow(*roots).symbols if name}


def test_other_modules_lazy_imports_and_dotted_names_are_followed(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "POLICY = 'experts.load:load_policy'\n"
        "def start():\n    from pipeline import rollout as r\n    return r.play_scores, POLICY\n"
    )
    domains.bring({"mine": str(path)})
    try:
        found = names(f"{domains.module_name('mine')}:start")
    finally:
        domains.bring({})
    assert {"pipeline.rollout:play_scores", "experts.load:load_policy"} <= found
    assert "experts.appo.network_policy:NetworkPolicy.act" in found
    assert "pipeline.rollout:rollout" not in found


def test_methods_that_a_library_calls_count(tmp_path):
    found = names("trainer.model.modeling_jat:JatModel")
    assert "trainer.model.modeling_jat:JatModel.forward" in found
    found = names("trainer.training.loop:JatTrainer")
    assert "trainer.training.loop:JatTrainer.compute_loss" in found


def test_data_beside_a_module_counts(tmp_path):
    words = tmp_path / "words"
    words.mkdir()
    (words / "en.txt").write_text("the")
    path = tmp_path / "mine.py"
    path.write_text("from pathlib import Path\nW = Path(__file__).parent / 'words'\n")
    domains.bring({"mine": str(path)})
    try:
        symbol = f"{domains.module_name('mine')}:W"
        before = closure.digest(symbol)
        (words / "en.txt").write_text("a")
        closure.forget()
        assert closure.digest(symbol) != before
    finally:
        domains.bring({})
        closure.forget()


def test_plumbing_is_not_followed_and_exists():
    assert not {name.split(":")[0] for name in names("trainer.run:main")} & closure.PLUMBING
    for module in closure.PLUMBING:
        assert python_source.find_source(module) is not None, module


def test_every_module_of_the_project_can_be_followed():
    root = Path(closure.__file__).parent.parent
    for package in python_source.PACKAGES:
        for path in (root / package).rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            assert python_source.find_source(name) == path


def test_code_that_runs_as_a_program_must_be_named(monkeypatch):
    def stage() -> None: ...

    stage.__qualname__, stage.__module__ = "stage", "__main__"
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    assert closure.digests(stage) == {}  # a script of the user's
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", closure.__spec__)
    with pytest.raises(ValueError, match="name 'stage' as a string"):
        closure.digest(stage)
