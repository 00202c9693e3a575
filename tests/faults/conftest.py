"""One chain of tiny stages for all tests of this folder, made once in each process."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from benchmarks.faults.project import Chain, Runner, small_file_system


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Every stage has run once, uninterrupted; on a small file system, where one can be mounted."""
    base = tmp_path_factory.mktemp("faults")
    work = base / "disk" / "work"
    with ExitStack() as stack:
        try:
            stack.enter_context(small_file_system(base / "disk"))
            small = True
        except PermissionError:
            small = False
        work.mkdir(parents=True)
        made = Chain(stack.enter_context(Runner(work, base / "logs")), base / "snapshots", small)
        made.make()
        yield made
