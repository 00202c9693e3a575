"""The sources of documents: installed documentation, files, or a dataset on the Hub."""

import hashlib
import sys
from collections.abc import Iterator
from itertools import islice

from dataset_builder.text.document import Document
from dataset_builder.text.files import files_fingerprint, read_files
from dataset_builder.text.installed import distributions, installed_docs
from pipeline.errors import UserError


def open_source(
    source: str, *, limit: int | None = None, text_column: str = "text"
) -> Iterator[Document]:
    """Iterate over the documents of `source`, at most `limit` of them.

    Args:
        source: "installed_docs", "files:<folder, file or glob>" (a path or an fsspec URL), or
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
        documents = read_files(where, text_column)
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

    Installed documentation is known by the packages' versions, files on this machine by their
    content, files elsewhere by what their host says of them, a Hub dataset by name and revision.
    """
    kind, _, where = source.partition(":")
    digest = hashlib.blake2b(source.encode(), digest_size=16)
    if kind == "installed_docs":
        digest.update(sys.version.encode())
        for name, distribution in distributions().items():
            digest.update(f"{name}=={distribution.version}\n".encode())
    elif kind == "files":
        digest.update(files_fingerprint(where).encode())
    return digest.hexdigest()


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
    """Stream a Hub dataset such as Wikipedia: rows arrive as they are read.

    Datasets that are a loading script no longer load; where the Hub has converted one, its
    revision "refs/convert/parquet" does, and else its files through "files:hf://datasets/...".

    Raises:
        UserError: no network, no such dataset, or no such text column.
    """
    import datasets  # a second to import, and only this source needs it
    from datasets.exceptions import DatasetsError
    from httpx2 import HTTPError

    label = f"hub:{repo}" + (f"@{revision}" if revision else "") + (f"#{config}" if config else "")
    try:
        rows = datasets.load_dataset(repo, config, revision=revision, split=split, streaming=True)
        for number, row in enumerate(rows):
            text = row.get(text_column)
            if not isinstance(text, str):
                raise UserError(f"{label}: no text in column {text_column!r} of {sorted(row)}")
            yield Document(f"{repo}#{number}", text, {"source": label})
    except (OSError, ValueError, RuntimeError, DatasetsError, HTTPError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{label}: cannot be streamed: {reason}") from error
