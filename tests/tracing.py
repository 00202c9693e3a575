"""A profiler's eye on what code of the project runs, against what its digest is made of."""

import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline import closure
from pipeline.python_source import PACKAGES, parsed

ROOT = Path(__file__).parent.parent
TOLD = {
    ("pipeline.engines.versions", "package"),
    ("pipeline.shards", "sha256"),
    ("pipeline.domains.mujoco", "loss_weight"),
}
"""What they give is a value in fingerprints: a version, a checksum, a weight."""


@contextmanager
def traced(ran: set[tuple[str, str]]):
    """Gather (module, definition) of every call of the project's own code."""

    def see(frame: Any, event: str, argument: Any) -> None:
        if event != "call":
            return
        path = Path(frame.f_code.co_filename)
        if not path.is_relative_to(ROOT) or path.relative_to(ROOT).parts[0] not in PACKAGES:
            return
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        names = frame.f_code.co_qualname.partition(".<locals>")[0].split(".")
        if names[0].startswith("<"):
            return
        known = parsed(module)
        name = ".".join(names[:2]) if ".".join(names[:2]) in known.definitions else names[0]
        # The body of a class runs when it is imported.
        if (
            name in known.definitions
            and (module, name) not in ran
            and names[-1] not in known.classes
        ):
            ran.add((module, name))

    threading.setprofile(see)
    sys.setprofile(see)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def check(run: Callable[[], Any], *roots: closure.Root, without=closure.PLUMBING) -> None:
    """Run once to import what it imports, then once under the eye of the profiler."""
    ran: set[tuple[str, str]] = set()
    with traced(ran):
        run()
    known = closure.follow(*roots, without=without).symbols
    missed = {(module, name) for module, name in ran if module not in without} - known - TOLD
    assert missed == set()
    assert len(ran) > 5
