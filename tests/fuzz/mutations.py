"""Mistakes as people, disks and strangers make them: each follows from the seed of its random."""

import copy
import json
import os
import random
from collections.abc import Iterator
from typing import Any

import yaml

SCALE = float(os.environ.get("JAT_FUZZ", "1"))
"""How many times as many cases as usual: 10 makes about as many as 2,000 parameter files."""
ABSURD: list[Any] = [
    None, True, False, 0, -1, 1, 10**30, -(10**30), 0.5, -0.0, 1e308, float("inf"), float("nan"),
    "", " ", "yes", "1", "1e999", "null", "\u202e\u200b", "é" * 300, "../../etc/passwd", "a b\tc",
    [], {}, [[]], [None], {"": None}, [1, "a", {}], {"a": {"a": {"a": {}}}},
]  # fmt: skip
"""Values that are seldom right."""


def cases(usual: int) -> int:
    """How many cases a test tries."""
    return max(1, round(usual * SCALE))


def places(value: Any, prefix: tuple = ()) -> Iterator[tuple]:
    """The keys and positions that lead to every value within plain values."""
    if isinstance(value, dict):
        pairs = list(value.items())
    else:
        pairs = list(enumerate(value)) if isinstance(value, list) else []
    for key, inner in pairs:
        yield (*prefix, key)
        yield from places(inner, (*prefix, key))


def group_of(values: Any, place: tuple) -> Any:
    """The mapping or list that holds the value at a place."""
    for key in place[:-1]:
        values = values[key]
    return values


def misspelt(rng: random.Random, name: str) -> str:
    """Another name, a slip of the hand away."""
    at = rng.randrange(len(name) + 1)
    return rng.choice(
        [
            f"{name}s",
            f"{name[:at]}x{name[at:]}",
            f"{name[:at]}{name[at + 1 :]}x",
            name.upper() + "_",
        ]
    )


def change_values(rng: random.Random, values: Any) -> Any:
    """Plain values with one of them gone, doubled, renamed, moved, or of another kind."""
    values = copy.deepcopy(values)
    found = list(places(values))
    if not found:
        return rng.choice(ABSURD)
    place = rng.choice(found)
    group, key = group_of(values, place), place[-1]
    kind = rng.randrange(6)
    if kind == 0:
        del group[key]
    elif kind == 1 and isinstance(group, dict):
        group[misspelt(rng, str(key))] = group.pop(key)
    elif kind == 2:
        other = rng.choice(found)
        group[key] = copy.deepcopy(group_of(values, other)[other[-1]])
    elif kind == 3 and isinstance(group, list):
        group.append(copy.deepcopy(group[key]))
    elif kind == 4:
        group[key] = {"inner": group[key]} if rng.random() < 0.5 else [group[key]]
    else:
        group[key] = copy.deepcopy(rng.choice(ABSURD))
    return values


def change_bytes(rng: random.Random, data: bytes) -> bytes:
    """A file with bits flipped, cut, padded, zeroed, doubled or replaced."""
    if not data:
        return bytes(rng.randrange(256) for _ in range(20))
    at, size = rng.randrange(len(data)), rng.choice([1, 4, 64, 1024])
    kind = rng.randrange(8)
    if kind in (0, 1):
        changed = bytearray(data)
        for _ in range(rng.choice([1, 3, 20])):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        return bytes(changed)
    if kind == 2:
        return data[:at]
    if kind == 3:
        return data[at:]
    if kind == 4:
        return data[:at] + bytes(size) + data[at + size :]
    if kind == 5:
        return data[:at] + rng.randbytes(size) + data[at:]
    if kind == 6:
        return data[:at] + data[max(0, at - size) :]
    return rng.choice([b"", b"{}", b"[]", b"null", rng.randbytes(size), b"[" * 5000, b"1" * 6000])


def change_json(rng: random.Random, data: bytes) -> bytes:
    """A JSON file with values or bytes changed."""
    if rng.random() < 0.25:
        return change_bytes(rng, data)
    values = json.loads(data)
    for _ in range(rng.choice([1, 1, 1, 3])):
        values = change_values(rng, values)
    return json.dumps(values).encode()


def change_text(rng: random.Random, text: str) -> str:
    """A YAML file with lines gone, doubled, moved, indented, cut, or spiced with YAML's tricks."""
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    tricks = [
        "? {a: b}\n: c\n", "<<: *nowhere\n", "&a seed: *a\n", "- stray\n", "\tseed: 1\n", "--- \n",
        "seed: !!python/object:os.system x\n", "seed: !!int nine\n", "seed: !!binary x\n", "%TAG\n",
        "x: &x [*x]\n", "seed: 0x" + "f" * 200 + "\n", "on: off\n", "1: 2\n", "~: 1\n", "}: {\n",
        "profile: \x01\n", 'profile: "\\0\\e[31m"\n', "seed: 2001-99-99\n", "text: !!set {a, b}\n",
        "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
            f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n"
            for a, b in zip("abcdefghi", "bcdefghij", strict=True)
        ),
        "x: " + "[" * 3000 + "\n", "x: " + "{a: " * 3000 + "\n", "seed: " + "9" * 5000 + "\n",
    ]  # fmt: skip
    kind = rng.randrange(7)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[at])
    elif kind == 2:
        lines.insert(rng.randrange(len(lines)), lines.pop(at))
    elif kind == 3:
        lines[at] = rng.choice([" ", "  ", "\t", "- "]) + lines[at]
    elif kind == 4:
        lines.insert(at, indent + rng.choice(tricks))
    elif kind == 5:
        lines.append(rng.choice(tricks))
    else:
        whole = "".join(lines)
        return whole[: rng.randrange(len(whole))]
    return "".join(lines)


def change_parameters(rng: random.Random, text: str) -> bytes:
    """A parameter file with mistakes in its text, its values or its bytes."""
    kind = rng.random()
    if kind < 0.4:
        return change_text(rng, text).encode("utf8", "replace")
    if kind < 0.5:
        return change_bytes(rng, text.encode())
    values = yaml.safe_load(text)
    for _ in range(rng.choice([1, 1, 2, 4])):
        values = change_values(rng, values)
    return yaml.safe_dump(values, allow_unicode=True).encode("utf8", "replace")
