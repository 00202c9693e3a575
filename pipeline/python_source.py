"""A module's source as definitions: what each refers to, and a digest of what it does."""

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline import domains

PACKAGES = ("pipeline", "experts", "dataset_builder", "trainer")
"""The packages whose code is followed; what others release is known by its version."""
DOTTED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""What the name of a function looks like where it stands for the function (``types.resolve``)."""
PLAIN_BASES = ("object", "Protocol", "Generic", "Exception", "ABC", "NamedTuple", "Enum", "StrEnum")
"""Bases from outside that call no method by names of their own."""

Symbol = tuple[str, str]
"""(module, name), the name of a method as ``Class.method``; ``""``: what importing it does."""


@dataclass
class References:
    """What the source of a definition names."""

    symbols: set[Symbol] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    strings: set[str] = field(default_factory=set)
    """Those that could be names of attributes (``getattr``)."""


@dataclass
class Class:
    """A class, its methods apart."""

    name: str
    bases: list[str]
    methods: dict[str, list[ast.AST]] = field(default_factory=dict)


class Module:
    """One module's source, split into definitions."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.definitions: dict[str, list[ast.AST]] = {}
        self.classes: dict[str, Class] = {}
        self.imports: dict[str, Symbol] = {}
        self.effects: list[ast.AST] = []
        tree = _Stripped().visit(ast.parse(path.read_text(encoding="utf8")))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.imports |= self._imported(node)
        for statement in tree.body:
            self._define(statement)
        for cls in self.classes.values():
            for method, nodes in cls.methods.items():
                self.definitions[f"{cls.name}.{method}"] = nodes

    def names(self) -> list[str]:
        """Everything that it defines, and what importing it does."""
        return ["", *self.definitions]

    def _define(self, node: ast.AST) -> None:
        match node:
            case ast.Import() | ast.ImportFrom():
                pass
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                self.definitions.setdefault(name, []).append(node)
            case ast.ClassDef(name=name):
                self.classes[name] = self._split(node)
                self.definitions.setdefault(name, []).append(node)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                self.definitions.setdefault(name, []).append(node)
            case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
                pass
            case _:
                self.effects.append(node)

    def _split(self, node: ast.ClassDef) -> Class:
        """Take the methods out of a class."""
        cls = Class(node.name, [ast.unparse(base).partition("[")[0] for base in node.bases])
        kept: list[ast.stmt] = []
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                cls.methods.setdefault(statement.name, []).append(statement)
            else:
                kept.append(statement)
        node.body = kept or [ast.Pass()]
        return cls

    def is_foreign(self, cls: str) -> bool:
        """Whether a library's class may be among a class's bases, which calls what it knows."""
        for base in self.classes[cls].bases:
            if base in self.classes:
                foreign = self.is_foreign(base)
            elif base.rpartition(".")[2] in PLAIN_BASES:
                foreign = False
            else:
                module, name = locate(*self.imports.get(base, ("", ""))) or ("", "")
                ours = bool(module) and name in parsed(module).classes
                foreign = not ours or parsed(module).is_foreign(name)
            if foreign:
                return True
        return False

    def _imported(self, node: ast.Import | ast.ImportFrom) -> dict[str, Symbol]:
        """Local name -> what it stands for."""
        if isinstance(node, ast.Import):
            return {
                alias.asname or (top := alias.name.partition(".")[0]): (
                    alias.name if alias.asname else top,
                    "",
                )
                for alias in node.names
            }
        module = node.module or ""
        if node.level:
            inside = node.level - (self.path.name == "__init__.py")
            package = self.name.split(".")[: -inside or None]
            module = ".".join([*package, *filter(None, [module])])
        return {alias.asname or alias.name: (module, alias.name) for alias in node.names}

    def nodes(self, name: str) -> list[ast.AST]:
        """The source of one of its names."""
        return self.definitions.get(name, []) if name else self.effects

    def references(self, name: str) -> References:
        """What one of its names refers to."""
        found = References()
        for top in self.nodes(name):
            for node in ast.walk(top):
                match node:
                    case ast.Name(id=id):
                        found.symbols |= self._resolved(id)
                    case ast.Attribute(value=value, attr=attr):
                        found.attributes.add(attr)
                        found.symbols |= self._attribute(value, attr)
                    case ast.Constant(value=str(text)):
                        if DOTTED.fullmatch(text):
                            module, _, target = text.partition(":")
                            found.symbols.add((module, target))
                        elif text.isidentifier():
                            found.strings.add(text)
        return found

    def _resolved(self, name: str) -> set[Symbol]:
        if name in self.definitions:
            return {(self.name, name)}
        return {self.imports[name]} if name in self.imports else set()

    def _attribute(self, value: ast.expr, attr: str) -> set[Symbol]:
        """``module.name``, where the module was imported."""
        names = ast.unparse(value).split(".")
        if names[0] not in self.imports:
            return set()
        module, name = self.imports[names[0]]
        parts = [part for part in (module, name, *names[1:]) if part]
        for length in range(len(parts), 0, -1):
            if find_source(module := ".".join(parts[:length])):
                return {(module, [*parts[length:], attr][0])}
        return set()

    def digest(self, name: str) -> str:
        """A digest of the source of a name, and of the data files that it names."""
        lines = [ast.unparse(node) for node in self.nodes(name)]
        nodes = (node for top in self.nodes(name) for node in ast.walk(top))
        used = {node.id for node in nodes if isinstance(node, ast.Name)} & self.imports.keys()
        lines += [f"{local} = {':'.join(self.imports[local])}" for local in sorted(used)]
        whole = hashlib.sha256("\n".join(lines).encode())
        for file in self._data(name):
            whole.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
        return whole.hexdigest()

    def _data(self, name: str) -> Iterator[Path]:
        """The files beside the module that strings name, or that lie in folders so named."""
        constants = (node for top in self.nodes(name) for node in ast.walk(top))
        texts = {n.value for n in constants if isinstance(n, ast.Constant)}
        for text in sorted(text for text in texts & self._beside if isinstance(text, str)):
            path = self.path.with_name(text)
            files = [path] if path.is_file() else sorted(path.rglob("*"))
            yield from (f for f in files if f.is_file() and f.suffix not in (".py", ".pyc"))

    @cached_property
    def _beside(self) -> set[Any]:
        return {
            path.name
            for path in self.path.parent.iterdir()
            if path.suffix != ".py" and not (path / "__init__.py").exists()
        }


class _Stripped(ast.NodeTransformer):
    """Leaves out what decides nothing: docstrings, log lines and the wording of a UserError."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        match node.value:
            case ast.Constant(value=str()):
                return None
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log"))):
                return None
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        match node.exc:
            case ast.Call(func=ast.Name(id="UserError") as error):
                return ast.Raise(exc=error, cause=None)
        return self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(body := getattr(node, "body", None), list) and not body:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node


def locate(module: str, name: str) -> Symbol | None:
    """The symbol that ``from module import name`` gives, re-exports followed to the definition;
    None if another package defines it.
    """
    for _ in range(20):  # re-exports of re-exports
        if find_source(f"{module}.{name}"):
            return f"{module}.{name}", ""
        if not find_source(module):
            return None
        source = parsed(module)
        if name in source.definitions or not name:
            return module, name
        if name not in source.imports:
            return module, ""
        module, name = source.imports[name]
    return None


@cache
def parsed(name: str) -> Module:
    """The source of a module that is followed."""
    path = find_source(name)
    assert path is not None, name
    return Module(name, path)


def find_source(name: str) -> Path | None:
    """The file of a module that is followed, without importing it; None for any other name."""
    top, *rest = name.split(".")
    if top in PACKAGES:
        return _file(Path(__file__).parent.parent / top, tuple(rest))
    modules = {domains.module_name(domain): at for domain, at in domains.brought().items()}
    if name in modules and modules[name].endswith(".py"):
        return Path(modules[name])
    if top not in {module.partition(".")[0] for module in modules}:
        return None
    spec = find_spec(top)
    if spec is None or spec.origin is None:
        return None
    return _file(Path(spec.origin).parent, tuple(rest)) if rest else Path(spec.origin)


@cache
def _file(folder: Path, parts: tuple[str, ...]) -> Path | None:
    path = folder.joinpath(*parts)
    found = (path / "__init__.py", path.with_name(f"{path.name}.py"))
    return next((file for file in found if file.is_file()), None)


def forget() -> None:
    """Read all source anew."""
    parsed.cache_clear()
    _file.cache_clear()
