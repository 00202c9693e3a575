"""Sources: what is read, what is skipped, and one line for what is wrong."""

import gzip
import json
import sys

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_builder.text import installed, sources
from dataset_builder.text.sources import open_source
from pipeline.errors import UserError


def test_docstrings_without_running_the_code():
    code = '''
"""Module."""
raise SystemExit
class A:
    """Class.

        Indented.
    """
    async def f(self):
        "Method."
        def inner():
            """Inner."""
x = """not a docstring"""
'''
    assert installed.extract_docstrings(code) == (
        "Module.\n\nClass.\n\nIndented.\n\nMethod.\n\nInner."
    )


@pytest.mark.parametrize("code", ["def", "\0", "(" * 5000, "{{ template }}%"])
def test_code_that_does_not_parse_has_no_docstrings(code):
    assert installed.extract_docstrings(code) == ""


def test_prose_of_documentation():
    text = "Title\n=====\n\n\n\n  * an   item <b>bold</b> <ptr>\n>>> f(1)\n... 2\n+--+--+\n"
    text += "<!-- not\nshown -->end"
    assert installed.extract_prose(text) == "Title\n\n* an item bold <ptr>\nend"


@given(st.text())
def test_any_text_passes_through_extract_prose(text):
    once = installed.extract_prose(text)
    assert "\n\n\n" not in once
    assert once == once.strip()


@pytest.fixture
def small_installation(monkeypatch, tmp_path):
    """A standard library of two modules, one help topic and one installed package."""
    stdlib = tmp_path / "stdlib"
    (stdlib / "test").mkdir(parents=True)
    (stdlib / "b.py").write_text('"""Module b."""\nraise SystemExit\n', encoding="utf-8")
    (stdlib / "a.py").write_text('def f():\n    """Function f."""\n', encoding="utf-8")
    (stdlib / "test" / "c.py").write_text('"""A test."""\n', encoding="utf-8")
    (stdlib / "latin.py").write_bytes(b'"""caf\xe9"""')
    packages = installed.distributions()
    monkeypatch.setattr(installed.sysconfig, "get_path", lambda name: str(stdlib))
    monkeypatch.setattr(installed, "topics", {"with": "The with statement"})
    monkeypatch.setattr(installed, "distributions", lambda: {"pytest": packages["pytest"]})


def test_installed_docs_in_order(small_installation):
    documents = list(installed.installed_docs())
    assert documents == list(installed.installed_docs())
    ids = [document.id for document in documents]
    assert ids[:4] == ["topics/with", "stdlib/a.py", "stdlib/b.py", "descriptions/pytest"]
    assert "docstrings/_pytest/fixtures.py" in ids
    assert len(set(ids)) == len(ids)
    assert [document.text for document in documents[:3]] == [
        "The with statement",
        "Function f.",
        "Module b.",
    ]
    assert "pytest" in documents[3].text


def test_installed_docs_import_nothing(small_installation):
    sys.modules.pop("_pytest.pastebin", None)
    ids = [document.id for document in installed.installed_docs()]
    assert "docstrings/_pytest/pastebin.py" in ids
    assert "_pytest.pastebin" not in sys.modules


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_text("first text", encoding="utf-8")
    rows = [{"text": "second"}, {"text": "lone \ud800 half"}]
    lines = "\n\n".join(json.dumps(row) for row in rows)
    (tmp_path / "b" / "c.jsonl").write_text(lines, encoding="utf-8")
    pq.write_table(pa.table({"text": ["third", None], "n": [1, 2]}), tmp_path / "d.parquet")
    (tmp_path / "ignored.bin").write_bytes(b"\xff")
    return tmp_path


def test_local_files(folder):
    documents = list(open_source(f"files:{folder}"))
    assert [(document.id, document.text) for document in documents] == [
        ("a.txt#0", "first text"),
        ("b/c.jsonl#0", "second"),
        ("b/c.jsonl#1", "lone ? half"),
        ("d.parquet#0", "third"),
    ]
    assert len(list(open_source(f"files:{folder}", limit=2))) == 2
    assert [d.text for d in open_source(f"files:{folder}/*.txt")] == ["first text"]
    assert [d.text for d in open_source(f"files:{folder}/a.txt")] == ["first text"]


def test_fingerprint_follows_the_content(folder):
    before = sources.source_fingerprint(f"files:{folder}")
    assert sources.source_fingerprint(f"files:{folder}") == before
    (folder / "a.txt").write_text("first test", encoding="utf-8")
    assert sources.source_fingerprint(f"files:{folder}") != before


def test_files_behind_a_url_and_compressed(tmp_path):
    memory = fsspec.filesystem("memory")
    try:
        memory.pipe("/corpus/en/part_2.jsonl.gz", gzip.compress(b'{"content": "two"}\n', mtime=0))
        memory.pipe("/corpus/en/part_1.jsonl.gz", gzip.compress(b'{"content": "one"}\n', mtime=0))
        url = "files:memory://corpus/en/*.jsonl.gz"
        before = sources.source_fingerprint(url)
        documents = list(open_source(url, text_column="content"))
        assert [(d.id, d.text, d.meta) for d in documents] == [
            ("part_1.jsonl.gz#0", "one", {"source": "en"}),
            ("part_2.jsonl.gz#0", "two", {"source": "en"}),
        ]
        memory.pipe(
            "/corpus/en/part_1.jsonl.gz", gzip.compress(b'{"content": "another"}\n', mtime=0)
        )
        assert sources.source_fingerprint(url) != before
    finally:
        memory.rm("/corpus", recursive=True)


def write(folder, name, data: bytes) -> str:
    (folder / name).write_bytes(data)
    return f"files:{folder / name}"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.jsonl", b'{"text": "a"}\n{"text"', r"x\.jsonl:2: not a JSON object"),
        ("x.jsonl", b'{"body": "a"}', r"x\.jsonl:1: no text under the key 'text'"),
        ("x.jsonl", b'["text"]', r"x\.jsonl:1: no text under the key 'text'"),
        ("x.txt", b"\xff\xfe", r"x\.txt: not UTF-8"),
        ("x.parquet", b"PAR1 not really", r"x\.parquet: not a Parquet file"),
        ("x.jsonl.gz", b"not gzip", r"x\.jsonl\.gz: cannot be read: Not a gzipped file"),
        (
            "x.jsonl.gz",
            gzip.compress(b'{"text": "a"}', mtime=0)[:-4],
            r"x\.jsonl\.gz: cannot be read",
        ),
        ("x.md", b"text", r"x\.md: expected a \.txt"),
    ],
)
def test_bad_files_are_one_line(tmp_path, name, data, message):
    with pytest.raises(UserError, match=message):
        list(open_source(write(tmp_path, name, data)))


def test_bad_columns_are_one_line(folder):
    with pytest.raises(UserError, match=r"d\.parquet: no column 'body'"):
        list(open_source(f"files:{folder}/d.parquet", text_column="body"))
    with pytest.raises(UserError, match=r"column 'n' holds int64, not text"):
        list(open_source(f"files:{folder}/d.parquet", text_column="n"))


@pytest.mark.parametrize("where", ["nothing://x", "s3-of-nowhere://a/b.txt"])
def test_unknown_protocols_are_one_line(where):
    with pytest.raises(UserError, match="cannot be listed"):
        list(open_source(f"files:{where}"))


@pytest.mark.parametrize("source", ["oscar", "files:", "hub:", "installed_docs:x", ""])
def test_unknown_sources_are_one_line(source):
    with pytest.raises(UserError, match="unknown text source"):
        open_source(source)


def test_missing_files_are_one_line(tmp_path):
    for where in ("nowhere", "*.txt"):
        with pytest.raises(UserError, match=r"no \.txt, \.jsonl, \.jsonl\.gz, \.parquet file at"):
            list(open_source(f"files:{tmp_path / where}"))


def test_hub_names():
    assert sources.parse_hub("a/b") == ("a/b", None, None, "train")
    assert sources.parse_hub("a/b@v1#en/test") == ("a/b", "en", "v1", "test")
    assert sources.parse_hub("a/b@refs/convert/parquet#en") == (
        "a/b",
        "en",
        "refs/convert/parquet",
        "train",
    )
    with pytest.raises(UserError, match="no repository"):
        sources.parse_hub("#en")


def test_hub_streams(monkeypatch):
    asked = []

    def load_dataset(repo, config, **options):
        asked.append((repo, config, options))
        return iter([{"text": "one"}, {"text": "two"}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    documents = list(open_source("hub:owner/corpus@abc#en", limit=1))
    assert [(d.id, d.text) for d in documents] == [("owner/corpus#0", "one")]
    assert asked == [
        ("owner/corpus", "en", {"revision": "abc", "split": "train", "streaming": True})
    ]
    with pytest.raises(UserError, match="no text in column 'body'"):
        list(open_source("hub:owner/corpus", text_column="body"))


def test_hub_failures_are_one_line(monkeypatch):
    def load_dataset(*arguments, **options):
        raise ConnectionError("no route\nto the host")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UserError, match=r"hub:a/b: cannot be streamed: no route$"):
        list(open_source("hub:a/b"))
