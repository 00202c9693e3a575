"""The code that decides a result, as digests: what is reached from it, and nothing else.

From a function on, every definition that its source names is followed, through imports, classes and
dotted names, as far as the code is this project's (or a brought module's). Of a class only those
methods count whose names occur in code that is reached, or that another library may call. Comments,
docstrings, layout, what is logged and the wording of a UserError are left out: they decide nothing.
"""

import hashlib
import sys
from collections.abc import Callable, Collection, Iterator
from functools import cache
from types import ModuleType
from typing import Any

from pipeline import python_source
from pipeline.python_source import Class, Symbol, find_source, locate, parsed

PLUMBING = frozenset(
    f"pipeline.{name}"
    for name in (
        "closure", "domains", "errors", "fanout", "files", "locks", "manifest", "options",
        "outputs", "ownership", "params", "paths", "program", "publication", "python_source",
        "settings", "stage", "system_errors", "tasks",
    )
)  # fmt: skip
"""What asks for results, finds and stores them, but never decides what they are: the values of
parameters are among what a fingerprint is made of."""
DIGITS = 12

Root = Callable[..., Any] | ModuleType | str
"""A function, a class or ``"package.module:name"``; a module stands for all that it defines."""


def digests(*roots: Root, without: Collection[str] = PLUMBING) -> dict[str, str]:
    """Module -> a digest of what of it is reached from the roots, in the order of names.

    The modules ``without`` are not followed.
    """
    symbols = frozenset(symbol for root in roots for symbol in _symbols(root))
    return dict(_digests(symbols, frozenset(without)))


@cache
def _digests(start: frozenset[Symbol], without: frozenset[str]) -> dict[str, str]:
    sources: dict[str, list[str]] = {}
    for module, name in sorted(_follow(start, without).symbols):
        sources.setdefault(module, []).append(f"{name}={parsed(module).digest(name)}")
    return {
        module: hashlib.sha256("\n".join(lines).encode()).hexdigest()[:DIGITS]
        for module, lines in sources.items()
    }


def digest(*roots: Root) -> str:
    """One digest of all that is reached from the roots: sha256, hexadecimal."""
    return hashlib.sha256(repr(sorted(digests(*roots).items())).encode()).hexdigest()


def follow(*roots: Root, without: Collection[str] = PLUMBING) -> "Reached":
    """All that the source of the roots leads to, themselves included."""
    return _follow({symbol for root in roots for symbol in _symbols(root)}, without)


def _follow(start: Collection[Symbol], without: Collection[str]) -> "Reached":
    walk = Reached(without)
    for symbol in start:
        walk.add(symbol)
    walk.run()
    return walk


def forget() -> None:
    """Read all source anew, which may have changed since (in a test, or a long session)."""
    _digests.cache_clear()
    python_source.forget()


def _symbols(root: Root) -> Iterator[Symbol]:
    if isinstance(root, ModuleType):
        yield from ((root.__name__, name) for name in parsed(root.__name__).names())
        return
    if isinstance(root, str):
        module, _, name = root.partition(":")
        yield module, name
        return
    root = getattr(root, "func", root)  # a functools.partial
    name = getattr(root, "__qualname__", type(root).__qualname__).split(".")[0]
    module = getattr(root, "__module__", type(root).__module__)
    if module == "__main__" and sys.modules[module].__spec__ is not None:
        raise ValueError(f"name '{name}' as a string: its module runs as a program (python -m)")
    if find_source(module) is None:  # another package's
        return
    if name in parsed(module).definitions:
        yield module, name
    else:  # a lambda: what it is cannot be told from its name
        yield from ((module, known) for known in parsed(module).names())


class Reached:
    """What references lead to, followed until nothing new is found."""

    def __init__(self, without: Collection[str]) -> None:
        self.symbols: set[Symbol] = set()
        self.attributes: set[str] = set()
        """The names of attributes that occur."""
        self._strings: set[str] = set()
        self._without = without
        self._waiting: list[Symbol] = []
        self._classes: list[tuple[str, Class]] = []

    def add(self, symbol: Symbol) -> None:
        """A symbol is reached, and what importing its module does."""
        for each in (symbol, (symbol[0], "")):
            if each not in self.symbols:
                self.symbols.add(each)
                self._waiting.append(each)

    def run(self) -> None:
        """Follow what was added."""
        while self._waiting:
            while self._waiting:
                self._follow(*self._waiting.pop())
            for module, cls in self._classes:
                for method in cls.methods:
                    called = method in self.attributes | self._strings or method.startswith("__")
                    if called or parsed(module).is_foreign(cls.name):
                        self.add((module, f"{cls.name}.{method}"))

    def _follow(self, module: str, name: str) -> None:
        source = parsed(module)
        references = source.references(name)
        self.attributes |= references.attributes
        self._strings |= references.strings
        for symbol in references.symbols:
            target = locate(*symbol)
            if target is not None and target[0] not in self._without:
                self.add(target)
        if name in source.classes:
            self._classes.append((module, source.classes[name]))
