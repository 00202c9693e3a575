"""The one exception that ends a stage with a line instead of a traceback."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Input from outside is wrong; the message is one line that names it and the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the valid name nearest to ``name``, or ``""``."""
    near = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f" (did you mean '{near[0]}'?)" if near else ""
