"""The one exception that ends a stage with a line instead of a traceback."""

import difflib
import logging
from collections.abc import Iterable, Mapping
from typing import Any

LINE = 1000
"""The most characters of an error, which may tell of several tasks; else it loses its middle."""
VALUE = 80
"""The most characters of a value that an error shows."""


class UserError(Exception):
    """Input from outside is wrong; the message is one line that names it and the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(shortened(plain(" ".join(message.split())), LINE))


class PlainFormatter(logging.Formatter):
    """Log lines that cannot command the terminal, whatever names files and tasks have."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; those of a traceback, which a defect of this project would be, stay apart."""
        return "\n".join(map(plain, super().format(record).splitlines()))


def plain(text: str) -> str:
    """Printable characters alone: neither line breaks nor escapes of a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def shortened(text: str, most: int) -> str:
    """At most so many characters; a longer text loses its middle."""
    if len(text) <= most:
        return text
    start = 2 * most // 3
    return f"{text[:start]} … {text[start + 3 - most :]}"


def shown(value: Any) -> str:
    """A value as an error tells it."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python writes
        text = f"a {type(value).__name__}"
    return shortened(text, VALUE)


WORDS = {
    "missing": "is missing",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "tuple_type": "must be a list",
    "none_required": "must be null",
    "finite_number": "must be a finite number",
}
"""pydantic's types of errors, in the words of YAML and JSON."""


def told(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors: what is wrong, and what is there."""
    words = WORDS.get(error["type"]) or str(error["msg"]).removeprefix("Value error, ")
    whole = error["type"] == "missing" or isinstance(error["input"], dict)
    return words if whole else f"{words} (it is {shown(error['input'])})"


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the valid name nearest to ``name``, or ``""``."""
    near = difflib.get_close_matches(name[:VALUE], list(valid), n=1, cutoff=0.5)
    return f" (did you mean '{near[0]}'?)" if near else ""
