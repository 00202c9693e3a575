"""What every stage shares: the command line, one-line errors, logging, progress, atomic outputs."""

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.params import load_params

log = logging.getLogger("jat")


def run_stage(
    main: Callable[..., None],
    description: str,
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None,
) -> None:
    """Parse the command line and call ``main(params, arguments)``.

    A UserError ends the process with one line on standard error and exit code 2.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--params", default="params.yaml", help="the parameter file")
    if add_arguments:
        add_arguments(parser)
    arguments = parser.parse_args()

    def run() -> None:
        main(load_params(arguments.params), arguments)

    exit_with_one_line(run)


def add_accept_code(parser: argparse.ArgumentParser) -> None:
    """The option of stages whose results take long to make."""
    parser.add_argument(
        "--accept-code",
        action="store_true",
        help="take results as they are that differ in nothing but the code that made them",
    )


def exit_with_one_line(run: Callable[[], None]) -> None:
    """Call ``run``; a UserError becomes one line on standard error and exit code 2."""
    start_logging()
    try:
        run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped: run the same command again to go on from here", file=sys.stderr)
        sys.exit(130)


def start_logging() -> None:
    """Plain time-stamped lines on standard error, from this project's logger only."""
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False


def progress(
    items: Iterable[Any], desc: str, total: int | None = None, unit: str = "it"
) -> Iterator[Any]:
    """Yield the items under a bar on a terminal, with a log line each 15 seconds elsewhere."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=desc, total=total, unit=unit)
        return
    last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last > 15:
            last = time.monotonic()
            log.info("%s: %d%s %s", desc, done, f" of {total}" if total else "", unit)


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write a whole file under a temporary name, then rename it into place."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data.encode() if isinstance(data, str) else data)
    os.replace(temporary, path)


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON, indented and with sorted keys, atomically."""
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: str | Path) -> Any:
    """Read JSON; UserError that names the file when it is missing or broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf8"))
    except FileNotFoundError:
        raise UserError(f"'{path}' does not exist: run the stage that makes it") from None
    except (ValueError, RecursionError):  # a number or a nesting beyond Python's limits, too
        raise UserError(f"'{path}' is not valid JSON: delete it and run its stage again") from None


@contextmanager
def replaced_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder that takes the place of ``path`` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{path.name}.*.part"):
        shutil.rmtree(stale)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        os.chmod(temporary, 0o755)
        yield temporary
        if path.exists():
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            os.rename(path, old)
            os.rename(temporary, path)
            shutil.rmtree(old)
        else:
            os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
