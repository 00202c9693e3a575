"""A corpus that needs no download: the documentation of the installed Python and its packages."""

import ast
import importlib.metadata
import inspect
import re
import sysconfig
import warnings
from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path
from pydoc_data.topics import topics

from dataset_builder.text.document import Document

PROSE_SUFFIXES = (".md", ".rst", ".txt")
# Machine-made tables and vendored data files are longer than any module written by hand.
MAX_SOURCE_BYTES = 1_000_000
HTML_TAG = re.compile(
    r"<!--.*?-->|</?(?:a|b|br|center|code|details|div|em|h\d|i|img|kbd|li|ol|p|picture|pre|source"
    r"|span|strong|sub|summary|sup|table|tbody|td|th|thead|tr|ul)\b[^<>]*>",
    re.DOTALL | re.IGNORECASE,
)
NO_PROSE = re.compile(r">>>|\.\.\. |[^\w]*$")
BLANK_LINES = re.compile(r"\n{3,}")
TEST_FOLDERS = {"test", "tests", "testing", "idle_test", "__pycache__", "site-packages"}


def installed_docs() -> Iterator[Document]:
    """English prose of this Python installation: nothing is downloaded, no module is imported.

    In this order: the language reference of `help()`, the standard library's docstrings, the
    packages' long descriptions, their prose files, and their docstrings. Packages and files come
    in alphabetical order, docstrings a module of each package in turn, so that a limit takes from
    all packages; a module's docstrings make one document.
    """
    for name in sorted(topics):
        meta = {"source": "topics", "package": "python"}
        yield Document(f"topics/{name}", extract_prose(topics[name]), meta)
    stdlib = Path(sysconfig.get_path("stdlib"))
    for path in sorted(stdlib.rglob("*.py")):
        yield from _docstrings(path, path.relative_to(stdlib).as_posix(), "stdlib", "python")
    packages = distributions()
    for name, distribution in packages.items():
        description = extract_prose(distribution.metadata["Description"] or "")
        if description:
            meta = {"source": "descriptions", "package": name}
            yield Document(f"descriptions/{name}", description, meta)
    for name, distribution in packages.items():
        yield from _prose_files(distribution, name)
    modules = ([(name, file) for file in _files(d, (".py",))] for name, d in packages.items())
    for package, file in filter(None, chain.from_iterable(zip_longest(*modules))):
        path = Path(str(file.locate()))
        yield from _docstrings(path, file.as_posix(), "docstrings", package)


OWN = "jack-of-all-trades"
"""This project's package: its own documentation changes too often to be a corpus."""


def distributions() -> dict[str, importlib.metadata.Distribution]:
    """Installed packages by name, each once (the first on sys.path hides the others)."""
    found: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name and name != OWN:
            found.setdefault(name.lower(), distribution)
    return dict(sorted(found.items()))


def _files(
    distribution: importlib.metadata.Distribution, suffixes: tuple[str, ...]
) -> list[importlib.metadata.PackagePath]:
    """The installed files with these suffixes, in alphabetical order."""
    files = distribution.files or []
    return sorted((file for file in files if file.suffix in suffixes), key=lambda f: f.as_posix())


def _prose_files(distribution: importlib.metadata.Distribution, package: str) -> Iterator[Document]:
    for file in _files(distribution, PROSE_SUFFIXES):
        # Licences and file lists of dist-info are no prose; its description is read on its own.
        if ".." in file.parts or any(part.endswith(".dist-info") for part in file.parts):
            continue
        text = extract_prose(_read_source(Path(str(file.locate()))))
        if text:
            meta = {"source": "prose", "package": package}
            yield Document(f"prose/{file.as_posix()}", text, meta)


def _docstrings(path: Path, name: str, source: str, package: str) -> Iterator[Document]:
    """One document with the docstrings of a module, or none."""
    if TEST_FOLDERS.intersection(Path(name).parts[:-1]) or ".." in Path(name).parts:
        return
    code = _read_source(path)
    if not code or ('"""' not in code and "'''" not in code):
        return
    text = extract_prose(extract_docstrings(code))
    if text:
        yield Document(f"{source}/{name}", text, {"source": source, "package": package})


def extract_prose(text: str) -> str:
    """The lines of technical documentation that are prose.

    Interpreter sessions, HTML tags, table borders and headings' underlines go; so do indentation
    and alignment, and all but one of the blank lines in a row.
    """
    lines = (" ".join(line.split()) for line in HTML_TAG.sub("", text).split("\n"))
    kept = (line for line in lines if not line or not NO_PROSE.match(line))
    return BLANK_LINES.sub("\n\n", "\n".join(kept)).strip()


def extract_docstrings(code: str) -> str:
    """The docstrings of a module, its classes and its functions in order, a blank line between.

    Returns "" for code that this Python cannot parse (templates, other versions' syntax).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            module = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return ""
    return "\n\n".join(filter(None, map(inspect.cleandoc, _walk_docstrings(module))))


def _walk_docstrings(node: ast.AST) -> Iterator[str]:
    body = getattr(node, "body", None)
    if not isinstance(body, list):
        return
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        docstring = ast.get_docstring(node, clean=False)
        if docstring:
            yield docstring
    for child in body:
        yield from _walk_docstrings(child)


def _read_source(path: Path) -> str:
    """A file's text, or "" where it is missing, too long or not UTF-8."""
    try:
        if path.stat().st_size > MAX_SOURCE_BYTES:
            return ""
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
