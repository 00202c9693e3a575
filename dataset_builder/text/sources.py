"""Where documents come from: installed documentation, local files, or a dataset on the Hub."""

import ast
import glob
import hashlib
import importlib.metadata
import inspect
import json
import re
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from pathlib import Path
from pydoc_data.topics import topics

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError

PROSE_SUFFIXES = (".md", ".rst", ".txt")
TEXT_FORMATS = (".txt", ".jsonl", ".parquet")
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


@dataclass(frozen=True, slots=True)
class Document:
    """A text, where it came from, and an id that is unique within its source."""

    id: str
    text: str
    meta: dict[str, str] = field(default_factory=dict)


def open_source(
    source: str, *, limit: int | None = None, text_column: str = "text"
) -> Iterator[Document]:
    """Iterate over the documents of `source`, at most `limit` of them.

    Args:
        source: "installed_docs", "files:<folder, file or glob>", or
            "hub:<repo>[@revision][#config[/split]]".
        limit: number of documents, all of them when None.
        text_column: the column (or JSON key) that holds the text.

    Raises:
        UserError: the source is unknown, or cannot be read.
    """
    kind, _, where = source.partition(":")
    if kind == "installed_docs" and not where:
        documents = installed_docs()
    elif kind == "files" and where:
        documents = local_files(where, text_column=text_column)
    elif kind == "hub" and where:
        documents = hub(*parse_hub(where), text_column=text_column)
    else:
        raise UserError(
            f"source: unknown text source {source!r}; use installed_docs, files:<path> "
            "or hub:<repo>[@revision][#config[/split]]"
        )
    return islice(documents, limit)


def source_fingerprint(source: str) -> str:
    """What `source` holds now, as far as this machine can tell: it changes when the texts do.

    Installed documentation is known by the packages' versions, local files by their content, a
    Hub dataset by its name and revision.
    """
    kind, _, where = source.partition(":")
    digest = hashlib.blake2b(source.encode(), digest_size=16)
    if kind == "installed_docs":
        digest.update(sys.version.encode())
        for name, distribution in _distributions().items():
            digest.update(f"{name}=={distribution.version}\n".encode())
    elif kind == "files":
        for path in find_files(where):
            digest.update(f"{path.name}\0".encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


# ---------------------------------------------------------------- installed documentation


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
    packages = _distributions()
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


def _distributions() -> dict[str, importlib.metadata.Distribution]:
    """Installed packages by name, each once (the first on sys.path hides the others)."""
    found: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
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


# ---------------------------------------------------------------- local files


def find_files(where: str) -> list[Path]:
    """The .txt, .jsonl and .parquet files of a folder (with its subfolders), a path or a glob.

    Raises:
        UserError: there is none.
    """
    folder = Path(where).expanduser()
    if folder.is_dir():
        found = [path for path in folder.rglob("*") if path.suffix in TEXT_FORMATS]
    else:
        # glob takes absolute patterns, which Path.glob does not.
        found = [Path(path) for path in glob.glob(str(folder), recursive=True)]  # noqa: PTH207
    files = sorted(path for path in found if path.is_file())
    if not files:
        raise UserError(f"source: no {', '.join(TEXT_FORMATS)} file at files:{where}")
    for path in files:
        if path.suffix not in TEXT_FORMATS:
            raise UserError(f"{path}: expected a {', '.join(TEXT_FORMATS)} file")
    return files


def local_files(where: str, *, text_column: str = "text") -> Iterator[Document]:
    """Documents of text files (one each), JSON lines and Parquet tables (one a row).

    Args:
        where: a folder (with its subfolders), a file or a glob.
        text_column: the JSON key or Parquet column with the text.

    Raises:
        UserError: no such file, or one that is malformed; the line names the file.
    """
    readers: dict[str, Callable[[Path, str], Iterator[str]]] = {
        ".txt": _read_txt,
        ".jsonl": _read_jsonl,
        ".parquet": _read_parquet,
    }
    files = find_files(where)
    root = files[0].parent if len(files) == 1 else _common_folder(files)
    for path in files:
        name = path.relative_to(root).as_posix()
        try:
            for row, text in enumerate(readers[path.suffix](path, text_column)):
                yield Document(f"{name}#{row}", text, {"source": path.parent.name})
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 text; convert it first") from error


def _common_folder(files: list[Path]) -> Path:
    parents = [path.parent for path in files]
    root = parents[0]
    while not all(parent.is_relative_to(root) for parent in parents):
        root = root.parent
    return root


def _read_txt(path: Path, text_column: str) -> Iterator[str]:
    yield path.read_text(encoding="utf-8")


def _read_jsonl(path: Path, text_column: str) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                raise UserError(f"{path}:{number}: not a JSON object on one line") from error
            text = row.get(text_column) if isinstance(row, dict) else None
            if not isinstance(text, str):
                raise UserError(f"{path}:{number}: no text under the key {text_column!r}")
            # JSON may name halves of surrogate pairs, which no UTF-8 file can hold.
            yield text.encode("utf-8", "replace").decode()


def _read_parquet(path: Path, text_column: str) -> Iterator[str]:
    try:
        with pq.ParquetFile(path) as table:
            if text_column not in table.schema_arrow.names:
                raise UserError(f"{path}: no column {text_column!r} in {table.schema_arrow.names}")
            kind = table.schema_arrow.field(text_column).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise UserError(f"{path}: column {text_column!r} holds {kind}, not text")
            for batch in table.iter_batches(columns=[text_column]):
                yield from (text for text in batch.column(0).to_pylist() if text is not None)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: not a Parquet file, or damaged") from error


# ---------------------------------------------------------------- the Hub


def parse_hub(where: str) -> tuple[str, str | None, str | None, str]:
    """Split "repo[@revision][#config[/split]]" into (repo, config, revision, split)."""
    name, _, config = where.partition("#")
    repo, _, revision = name.partition("@")
    config, _, split = config.partition("/")
    if not repo:
        raise UserError(f"source: no repository in hub:{where}; use hub:<repo>[@revision][#config]")
    return repo, config or None, revision or None, split or "train"


def hub(
    repo: str,
    config: str | None = None,
    revision: str | None = None,
    split: str = "train",
    *,
    text_column: str = "text",
) -> Iterator[Document]:
    """Stream a Hub dataset such as OSCAR or Wikipedia: rows arrive as they are read.

    Raises:
        UserError: no network, no such dataset, or no such text column.
    """
    import datasets  # a second to import, and only this source needs it

    label = f"hub:{repo}" + (f"@{revision}" if revision else "") + (f"#{config}" if config else "")
    try:
        rows = datasets.load_dataset(repo, config, revision=revision, split=split, streaming=True)
        for number, row in enumerate(rows):
            text = row.get(text_column)
            if not isinstance(text, str):
                raise UserError(f"{label}: no text in column {text_column!r} of {sorted(row)}")
            yield Document(f"{repo}#{number}", text, {"source": label})
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{label}: cannot be streamed: {reason}") from error
