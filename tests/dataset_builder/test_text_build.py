"""The text stage: what it writes, that it resumes, and that workers change nothing."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from dataset_builder.text import build, clean
from dataset_builder.text.build import build_text
from dataset_builder.text.clean import Rules
from dataset_builder.text.document import Document
from pipeline.errors import UserError
from pipeline.settings import TextCorpus

ROOT = Path(__file__).parents[2]
WORDS = ("the", "a", "of", "and", "to", "in", "it", "was", "for", "on", "with", "that", "from")


def sentence(rng: np.random.Generator, words: int = 60) -> str:
    """Every other word a stop word, so that the filters take it for prose."""
    nouns = ["".join(rng.choice(list("abcdefghilmnoprstu"), 6)) for _ in range(words)]
    pairs = zip(rng.choice(WORDS, words), nouns, strict=True)
    return " ".join(f"{word} {noun}" for word, noun in pairs)


@pytest.fixture
def texts() -> list[str]:
    rng = np.random.default_rng(0)
    good = [sentence(rng) for _ in range(90)]
    return [*good, "too short", good[0], good[1] + " edited"]


@pytest.fixture
def source(tmp_path, texts) -> Path:
    path = tmp_path / "source" / "corpus.jsonl"
    path.parent.mkdir()
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(build, "BATCH", 16)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def read(folder: Path, split: str) -> list[str]:
    return [
        text
        for path in sorted(folder.glob(f"{split}-*.parquet"))
        for text in pq.read_table(path).column("text").to_pylist()
    ]


def test_the_corpus_and_its_report(tmp_path, source, texts):
    corpus = TextCorpus(name="c", source=f"files:{source}", test_fraction=0.1)
    report = build_text(corpus, 0, tmp_path / "out", 1)
    folder = tmp_path / "out" / "c"
    train, test = read(folder, "train"), read(folder, "test")
    assert Counter(train + test) == Counter(texts[:90])
    assert train != [text for text in texts if text in set(train)]
    assert len(test) == 9
    assert report == json.loads((folder / "report.json").read_text())
    assert report["documents"] == {"in": 93, "kept": 90}
    assert report["dropped"] == {"words": 1, "exact_duplicate": 1, "near_duplicate": 1}
    assert report["sources"] == {"source": {"in": 93, "kept": 90}}
    assert report["rows"] == {"train": 81, "test": 9}
    assert report["bytes"]["kept"] == sum(len(text) for text in train + test)
    assert set(report["skipped_filters"]) == {"language", "perplexity"}
    assert sorted(path.name for path in folder.parent.iterdir()) == ["c"]


def test_the_files_load_with_datasets(tmp_path, source):
    build_text(TextCorpus(name="c", source=f"files:{source}"), 0, tmp_path, 1)
    pattern = str(tmp_path / "c" / "train-*.parquet")
    rows = datasets.load_dataset("parquet", data_files=pattern, split="train", streaming=True)
    assert rows.features == datasets.Features({"text": datasets.Value("string")})
    column = pq.ParquetFile(next((tmp_path / "c").glob("train-*"))).metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"


def test_workers_change_no_byte(tmp_path, source):
    corpus = TextCorpus(name="c", source=f"files:{source}")
    for workers in (1, 2):
        build_text(corpus, 3, tmp_path / str(workers), workers)
    assert files(tmp_path / "1" / "c") == files(tmp_path / "2" / "c")


def test_the_seed_changes_the_order_and_more_documents_keep_their_sides(tmp_path, source, texts):
    corpus = TextCorpus(name="c", source=f"files:{source}")
    for seed in (0, 1):
        build_text(corpus, seed, tmp_path / str(seed), 1)
    one, other = ({s: read(tmp_path / str(k) / "c", s) for s in ("train", "test")} for k in (0, 1))
    assert one["train"] != other["train"]
    assert set(one["test"]) == set(other["test"])
    rng = np.random.default_rng(9)
    more = [*texts, *(sentence(rng) for _ in range(60))]
    (tmp_path / "more.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in more))
    build_text(TextCorpus(name="more", source=f"files:{tmp_path / 'more.jsonl'}"), 0, tmp_path, 1)
    grown = {split: set(read(tmp_path / "more", split)) for split in ("train", "test")}
    assert not set(one["train"]) & grown["test"]
    assert not set(one["test"]) & grown["train"]


def test_shards_hold_each_document_once(tmp_path, source, texts):
    corpus = TextCorpus(name="c", source=f"files:{source}", shards=3)
    report = build_text(corpus, 0, tmp_path, 1)
    folder = tmp_path / "c"
    assert len(list(folder.glob("train-*-of-00003.parquet"))) == 3
    kept = read(folder, "train") + read(folder, "test")
    assert len(kept) == len(set(kept)) == report["documents"]["kept"]
    assert set(texts[:90]) - {texts[1]} <= set(kept)
    assert report["dropped"]["exact_duplicate"] == 1


def test_a_finished_corpus_is_left_alone_until_something_changes(tmp_path, source, monkeypatch):
    corpus = TextCorpus(name="c", source=f"files:{source}")
    first = build_text(corpus, 0, tmp_path, 1)
    calls = []
    monkeypatch.setattr(build, "clean", lambda *a: calls.append(1) or clean.clean(*a))
    assert build_text(corpus, 0, tmp_path, 1) == first
    assert not calls
    with source.open("a", encoding="utf-8") as lines:
        lines.write("\n" + json.dumps({"text": sentence(np.random.default_rng(9))}))
    assert build_text(corpus, 0, tmp_path, 1)["documents"]["kept"] == 91
    assert len(calls) == 1
    build_text(corpus.model_copy(update={"test_fraction": 0.5}), 0, tmp_path, 1)
    assert len(calls) == 2
    next((tmp_path / "c").glob("train-*")).unlink()
    build_text(corpus.model_copy(update={"test_fraction": 0.5}), 0, tmp_path, 1)
    assert len(calls) == 3


@pytest.mark.parametrize("step", ["_raw_table", "clean", "write_shard", "put"])
def test_a_stopped_build_goes_on(tmp_path, source, monkeypatch, step):
    corpus = TextCorpus(name="c", source=f"files:{source}", shards=2)
    build_text(corpus, 0, tmp_path / "whole", 1)
    real, calls = getattr(build, step), []

    def stop_at_the_second_call(*arguments):
        calls.append(1)
        if len(calls) == (1 if step == "put" else 2):
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(build, step, stop_at_the_second_call)
    with pytest.raises(KeyboardInterrupt):
        build_text(corpus, 0, tmp_path / "stopped", 1)
    assert not (tmp_path / "stopped" / "c").exists()
    read_again = []
    real_open = build.open_source
    monkeypatch.setattr(
        build, "open_source", lambda *a, **k: read_again.append(1) or real_open(*a, **k)
    )
    build_text(corpus, 0, tmp_path / "stopped", 1)
    assert files(tmp_path / "stopped" / "c") == files(tmp_path / "whole" / "c")
    assert [path.name for path in (tmp_path / "stopped").iterdir()] == ["c"]
    if step == "clean":
        assert not read_again
        assert len(calls) == 3  # the first shard, the stop, the second shard


def test_nothing_left_is_one_line(tmp_path):
    (tmp_path / "a.txt").write_text("too short", encoding="utf-8")
    corpus = TextCorpus(name="c", source=f"files:{tmp_path / 'a.txt'}")
    with pytest.raises(UserError, match=r"c: no document of .* passed the filters"):
        build_text(corpus, 0, tmp_path, 1)


def test_without_filters_documents_stay_as_they_are():
    documents = [Document("a", "short\thttp://x"), Document("b", "short\thttp://x")]
    rules = Rules(filters="none", deduplication="none")
    cleaned = clean.clean([clean.filter_documents(documents, rules)], rules)
    assert [document.text for document in cleaned.documents] == ["short\thttp://x"]
    assert cleaned.report["dropped"] == {"exact_duplicate": 1}


def test_reports_add_up():
    part = {
        "documents": {"in": 2, "kept": 1},
        "dropped": {"words": 1},
        "skipped_filters": {"language": "lid_model is not set"},
        "warnings": ["w"],
    }
    other = {"documents": {"in": 1, "kept": 0}, "dropped": {"stop_words": 1}, "warnings": []}
    total = clean.merge_reports([part, other])
    assert total["documents"] == {"in": 3, "kept": 1}
    assert total["dropped"] == {"words": 1, "stop_words": 1}
    assert total["skipped_filters"] == part["skipped_filters"]
    assert total["warnings"] == ["w"]
    assert part["documents"] == {"in": 2, "kept": 1}


def test_a_huge_group_is_reported():
    rng = np.random.default_rng(1)
    text = sentence(rng, 100)
    documents = [Document(f"d{n}", f"{text} version{n}") for n in range(120)]
    rules = Rules()
    report = clean.clean([clean.filter_documents(documents, rules)], rules).report
    assert report["warnings"] == ["120 of 120 documents count as duplicates of d0"]


def run_stage(tmp_path: Path, corpus: dict, *arguments: str) -> subprocess.CompletedProcess[str]:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["text"], params["workers"] = [corpus], 1
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    command = [
        *(sys.executable, "-m", "dataset_builder.text.build"),
        *("--params", str(tmp_path / "params.yaml"), "--output", str(tmp_path / "out")),
        *("--metrics", str(tmp_path / "metrics.json"), *arguments),
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command(tmp_path, source):
    done = run_stage(tmp_path, {"name": "c", "source": f"files:{source}"})
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["c"]["documents"] == {"in": 93, "kept": 90}
    assert "skipped filter perplexity: kenlm_model is not set" in done.stderr


@pytest.mark.parametrize(
    ("corpus", "arguments", "message"),
    [
        ({"source": "files:/nowhere"}, (), "file at files:/nowhere"),
        ({"source": "web"}, (), "is not one of installed_docs"),
        ({"limit": 0}, (), "limit"),
        ({"name": "docs"}, ("--corpus", "doc"), "did you mean 'docs'?"),
    ],
)
def test_mistakes_are_one_line(tmp_path, corpus, arguments, message):
    done = run_stage(tmp_path, corpus, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("record", [None, "{}", '{"fingerprint": "x", "files": {}}'])
def test_a_folder_of_someone_else_is_left_alone(source, tmp_path, record):
    folder = tmp_path / "out" / "notes"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    if record:
        (folder / "report.json").write_text(record)
    before = files(folder)
    with pytest.raises(UserError, match="was not made by this command"):
        build_text(TextCorpus(name="notes", source=f"files:{source}"), 0, tmp_path / "out", 1)
    assert files(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["notes"]
