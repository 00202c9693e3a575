"""A YAML file as plain values, with the line that each of them stands in.

Files come from people and from elsewhere: whatever is in one, it is read within bounded time and
memory, or refused in one line.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import UserError, shortened, shown

MAX_BYTES = 2**18
"""The largest file: a profile has some kilobytes."""
DEPTH = 40
"""How deep values may be nested."""
VALUES = 50_000
"""How many values a file may have once its aliases are written out."""
DIGITS = 100
"""The longest number."""
MESSAGE = 300
"""The most characters of what is wrong in a line."""
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""What no text of a profile needs: it would command a terminal, or end a path."""

Place = tuple[int | str, ...]
"""The keys, and the positions in lists, that lead to a value."""


@dataclass(frozen=True)
class Mistake:
    """What is wrong, and with which value."""

    place: Place
    message: str


@dataclass(frozen=True)
class Document:
    """A mapping that was read from a file."""

    path: str
    values: dict[str, Any]
    root: yaml.Node
    mistakes: tuple[Mistake, ...] = ()
    """Keys that stand twice, so that one of them would count for nothing."""

    def tell(self, mistake: Mistake) -> str:
        """The line that a person reads: file, line and what is wrong."""
        place = f"{self.path}:{self.line(mistake.place)}"
        return str(UserError(f"{place}: {shortened(mistake.message, MESSAGE)}"))

    def line(self, place: Place) -> int:
        """The line of a value's key, or of the nearest group that is there."""
        node, line = self.root, 1
        for part in place:
            found = _child(node, part)
            if found is None:
                break
            mark, node = found
            line = mark.start_mark.line + 1
        return line


def _child(node: yaml.Node, part: int | str) -> tuple[yaml.Node, yaml.Node] | None:
    """The node that carries the line of a part, and the node of its value."""
    if isinstance(node, yaml.MappingNode):
        # What is merged in from an alias comes before the mapping's own keys, which win.
        pairs = [pair for pair in node.value if pair[0].value == str(part)]
        return pairs[-1] if pairs else None
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def read_document(path: str | Path) -> Document:
    """Read a mapping from a YAML file; UserError in one line if it is none, or too much."""
    text = _read(Path(path))
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise UserError(f"'{path}' must hold a mapping of parameters, like the one shipped")
        twice = _Graph(loader).check(root)
        values = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else f"'{path}'"
        raise UserError(f"{where} is not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:  # a character that no YAML file may have
        raise UserError(f"'{path}' is not YAML: {error}") from None
    return Document(str(path), values, root, tuple(twice))


def _read(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"cannot read '{path}' (it is no file): --params takes a file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UserError(
            f"no parameter file '{path}': run from the project's folder or pass --params"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"cannot read '{path}' ({reason}): --params takes a file") from None
    if len(data) > MAX_BYTES:
        raise UserError(f"'{path}' has more than {MAX_BYTES // 1024} KiB: it is no parameter file")
    try:
        return data.decode("utf8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line} is not YAML: it is no text in UTF-8") from None


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader whose every refusal is a YAMLError with a line."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node; those nested too deep are never read."""
        self.depth += 1
        if self.depth > DEPTH:
            raise self.refusal(self.peek_event(), f"values are nested more than {DEPTH} deep")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node."""
        if isinstance(node, yaml.ScalarNode):
            if node.tag.endswith((":int", ":float")) and len(node.value) > DIGITS:
                raise self.refusal(node, f"a number has more than {DIGITS} digits")
            if UNPRINTABLE.search(node.value):
                raise self.refusal(node, f"{shown(node.value)} has unprintable characters")
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except Exception:  # the constructors of PyYAML leave malformed scalars to Python
            raise self.refusal(
                node, f"{shown(node.value)} is no {node.tag.rpartition(':')[2]}"
            ) from None

    @staticmethod
    def refusal(where: Any, problem: str) -> yaml.YAMLError:
        """An error that names the line of a node or an event."""
        return yaml.constructor.ConstructorError(None, None, problem, where.start_mark)


class _Graph:
    """Checks a tree of nodes that aliases may have turned into a graph."""

    def __init__(self, loader: _Loader) -> None:
        self.loader = loader
        self.known: dict[int, tuple[int, int] | None] = {}
        """Node -> its values and its depth, aliases written out; ``None`` while it is open."""
        self.twice: list[Mistake] = []

    def check(self, root: yaml.Node) -> list[Mistake]:
        """The keys that stand twice; YAMLError for a graph without end, or too large a one."""
        self._measure(root, ())
        return self.twice

    def _measure(self, node: yaml.Node, place: Place) -> tuple[int, int]:
        if id(node) in self.known:
            measured = self.known[id(node)]
            if measured is None:
                raise self.loader.refusal(node, "a value contains itself")
            return measured
        self.known[id(node)] = None
        if isinstance(node, yaml.MappingNode):
            self._find_twice(node, place)
            children = [(child, (*place, key.value)) for key, child in node.value]
            children += [(key, place) for key, _ in node.value]
        elif isinstance(node, yaml.SequenceNode):
            children = [(child, (*place, k)) for k, child in enumerate(node.value)]
        else:
            children = []
        inner = [self._measure(*child) for child in children]
        size = 1 + sum(values for values, _ in inner)
        depth = 1 + max((depth for _, depth in inner), default=0)
        if size > VALUES or depth > DEPTH:
            raise self.loader.refusal(node, "aliases make it too large")
        self.known[id(node)] = size, depth
        return size, depth

    def _find_twice(self, node: yaml.MappingNode, place: Place) -> None:
        first: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            same, line = (key.tag, key.value), key.start_mark.line + 1
            if same in first:
                where = (*place, key.value)
                name, lines = ".".join(map(str, where)), f"{first[same]} and {line}"
                message = f"key '{name}' stands twice, in lines {lines}: remove one"
                self.twice.append(Mistake(where, message))
            first.setdefault(same, line)
