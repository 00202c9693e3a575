"""The record that every source yields and every cleaning step takes."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Document:
    """A text, where it came from, and an id that is unique within its source."""

    id: str
    text: str
    meta: dict[str, str] = field(default_factory=dict)
