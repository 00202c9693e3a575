"""Settings of what is heavy to import, described as data: a profile is checked without it.

``data/recipe.json`` describes Sample Factory's settings, ``data/jat_config.json`` the fields of
JAT's configuration. `python -m benchmarks.described` writes both anew from the real ones; a test
holds them against these.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

from pipeline.errors import did_you_mean, shown

TYPES: dict[str, tuple[type, str]] = {
    "bool": (bool, "true or false"),
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "str": (str, "text"),
    "list": (list, "a list"),
}
"""Name of a type -> the type, and how an error calls it."""
MOST = 10**12
"""The largest whole number."""


@dataclass(frozen=True)
class Setting:
    """One setting by its name: what it may be."""

    type: str
    """A key of ``TYPES``."""
    items: str | None = None
    """The type of a list's items, where they all have the same."""
    choices: tuple[str, ...] = ()
    optional: bool = False
    """Whether it may be null."""
    least: int | None = None
    """The smallest number, or the smallest item."""
    default: Any = None
    fixed: bool = False
    """Whether this project decides it, and nobody else may."""

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, if anything."""
        if value is None and self.optional:
            return None
        if not _has_type(value, self.type):
            return f"must be {TYPES[self.type][1]} (it is {shown(value)})"
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(self.choices)} (it is {shown(value)})"
        items = value if isinstance(value, list) else [value]
        if self.items and not all(_has_type(item, self.items) for item in items):
            return f"must hold {TYPES[self.items][1]} each (it is {shown(value)})"
        numbers = [item for item in items if isinstance(item, int | float)]
        if not all(abs(number) <= MOST and math.isfinite(number) for number in numbers):
            return f"is beyond any sense (it is {shown(value)})"
        if self.least is not None and any(number < self.least for number in numbers):
            return f"must be at least {self.least} (it is {shown(value)})"
        return None


def _has_type(value: Any, name: str) -> bool:
    """A boolean is no number, a whole number is a number."""
    return type(value) is TYPES[name][0] or (name == "float" and type(value) is int)


@dataclass(frozen=True)
class Description:
    """All settings of one kind."""

    called: str
    """What an error calls them, such as "Sample Factory setting"."""
    settings: Mapping[str, Setting]
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name -> values that differ from the defaults."""

    def problems(self, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """(name, what is wrong with it) of every setting that cannot be as given."""
        for name, value in values.items():
            if (setting := self.settings.get(name)) is None:
                yield name, f"is no {self.called}{did_you_mean(name, self.settings)}"
            elif setting.fixed:
                yield name, f"is fixed to {setting.default!r}: remove it"
            elif problem := setting.problem(value):
                yield name, problem

    def filled(self, values: Mapping[str, Any], preset: str | None = None) -> dict[str, Any]:
        """The values that all settings have together with these."""
        defaults = {name: setting.default for name, setting in self.settings.items()}
        return {**defaults, **(self.presets[preset] if preset else {}), **values}


def to_json(description: Description) -> str:
    """The contents of a description's file: a setting a line, without what is as usual."""
    usual = vars(Setting(""))
    rows = []
    for name, setting in description.settings.items():
        told = {key: value for key, value in vars(setting).items() if value != usual[key]}
        rows.append(f"    {json.dumps(name)}: {json.dumps(told)}")
    head = {"called": description.called, "presets": description.presets}
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    return "\n".join(["{", *lines, '  "settings": {', ",\n".join(rows), "  }", "}"]) + "\n"


@lru_cache
def described(name: Literal["recipe", "jat_config"]) -> Description:
    """One of the two descriptions that come with the project."""
    text = (files("pipeline") / "data" / f"{name}.json").read_text(encoding="utf8")
    content = json.loads(text)
    settings = {
        key: Setting(**{**told, "choices": tuple(told.get("choices", ()))})
        for key, told in content["settings"].items()
    }
    return Description(content["called"], settings, content["presets"])


def recipe_problem(settings: Mapping[str, Any], envs: int) -> str | None:
    """Why Sample Factory cannot cut what ``envs`` environments collect into batches."""
    rollout = settings["num_workers"] * envs * settings["rollout"]
    batch = settings["batch_size"] * settings["num_batches_per_epoch"]
    if settings["async_rl"] or batch % rollout == 0:
        return None
    return (
        f"batch_size × num_batches_per_epoch = {batch} must be a multiple of "
        f"envs × rollout = {rollout}"
    )


def model_problems(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, why it does not fit the others) of a whole configuration of JAT."""
    hidden, heads = fields["hidden_size"], fields["num_heads"]
    if hidden % heads:
        yield "num_heads", f"hidden_size={hidden} must be a multiple of num_heads={heads}"
    image, patch = fields["image_size"], fields["patch_size"]
    if image % patch:
        yield "patch_size", f"image_size={image} must be a multiple of patch_size={patch}"
    layers, kinds = fields["num_layers"], fields["attention_types"]
    if kinds is not None and not _names_layers(kinds, layers):
        yield (
            "attention_types",
            f"must be like [[[global], {layers}]]: 'global' or 'local' for each of the "
            f"{layers} layers (it is {shown(kinds)})",
        )


def _names_layers(kinds: list[Any], layers: int) -> bool:
    """Whether ``[[kinds, repeats], …]`` has so many layers."""
    count = 0
    for pair in kinds:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], list):
            return False
        names, repeats = pair
        if type(repeats) is not int or not all(name in ("global", "local") for name in names):
            return False
        count += len(names) * max(0, repeats)
    return count == layers
