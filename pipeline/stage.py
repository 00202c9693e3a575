"""What every stage shares: the command line, one-line errors, logging and progress."""

import argparse
import errno
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline import program
from pipeline.errors import PlainFormatter, UserError
from pipeline.outputs import claimed, replaced_folder, write_atomic, write_json
from pipeline.params import load_params
from pipeline.system_errors import one_line

__all__ = ["exit_with_one_line", "log", "progress", "read_json", "replaced_folder", "run_stage",
           "start_logging", "write_atomic", "write_json"]  # fmt: skip

log = logging.getLogger("jat")

OF_WRITING = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""The errors of writing to what is open already."""


def run_stage(
    main: Callable[..., None],
    description: str,
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None,
    output: Callable[[argparse.Namespace], Path | None] = lambda arguments: None,
) -> None:
    """Parse the command line and call ``main(params, arguments)``.

    ``output`` says which file or folder the stage writes: only one run at a time does, another
    waits for it. The process ends as ``exit_with_one_line`` says.
    """

    def run() -> None:
        parser = argparse.ArgumentParser(
            description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        parser.add_argument("--params", default="params.yaml", help="the parameter file")
        if add_arguments:
            add_arguments(parser)
        arguments = parser.parse_args()
        params = load_params(arguments.params)
        path = output(arguments)
        with claimed(*[path] if path else []):
            main(params, arguments)

    exit_with_one_line(run)


def add_accept_code(parser: argparse.ArgumentParser) -> None:
    """The option of stages whose results take long to make."""
    parser.add_argument(
        "--accept-code",
        action="store_true",
        help="take results as they are that differ in nothing but the code that made them",
    )


def exit_with_one_line(run: Callable[[], None]) -> None:
    """Call ``run``; what stops it is one line on standard error.

    The exit code is 2 after a UserError or an error of the operating system, 130 after Ctrl-C.
    Other errors are faults of this project and keep their traceback.
    """
    start_logging()
    program.stop_in_order()
    try:
        try:
            run()
        finally:
            sys.stdout.flush()  # what it may raise would be shown as a traceback later on
    except UserError as error:
        _end(2, f"error: {error}")
    except KeyboardInterrupt:
        _end(program.INTERRUPTED, program.STOPPED)
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):  # rich's answer to a closed pipe
            raise
        _end(2, f"error: {_line(end.__context__)}")
    except Exception as error:
        line = _line(error)
        if line is None:
            raise
        _end(2, f"error: {line}")


def _line(error: BaseException) -> str | None:
    """The line of an error, as ``one_line`` says it; None for a fault of this project.

    Every writer of files names its file: an error of writing without a name is standard output's,
    which is then replaced by ``/dev/null``.
    """
    if isinstance(error, OSError) and error.filename is None and error.errno in OF_WRITING:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        reason = os.strerror(error.errno)
        return f"standard output: {reason}: let its reader take all of it, or write it to a file"
    return one_line(error)


def _end(code: int, line: str) -> None:
    program.stop_at_once_from_here()
    with suppress(OSError):  # nobody may be listening
        print(line, file=sys.stderr, flush=True)
    sys.exit(code)


def start_logging() -> None:
    """Plain time-stamped lines on standard error, from this project's logger only."""
    logging.raiseExceptions = False  # a log that cannot be written is no reason for a traceback
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(PlainFormatter("%(asctime)s %(message)s", "%H:%M:%S"))
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


def read_json(path: str | Path) -> Any:
    """Read JSON; UserError that names the file when it is missing or broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf8"))
    except FileNotFoundError:
        raise UserError(f"'{path}' does not exist: run the stage that makes it") from None
    except (ValueError, RecursionError):  # a number or a nesting beyond Python's limits, too
        raise UserError(f"'{path}' is not valid JSON: delete it and run its stage again") from None
