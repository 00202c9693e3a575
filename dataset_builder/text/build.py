"""Stage: sources to cleaned, deduplicated, shuffled text as Parquet shards, and a report.

    python -m dataset_builder.text.build --corpus python-docs

A corpus is a folder `<output>/<name>` with `train-*.parquet`, `test-*.parquet` and `report.json`.
It appears all at once; a finished one is built again only when its settings, its source or this
package change, and a stopped run takes up the steps that it had finished. Workers on other
machines must see the output folder.

As for ROOTS, a large corpus is dealt into shards that are cleaned and deduplicated one by one, so
that one shard must fit into memory. Documents are dealt by their text, so that exact duplicates
meet in one shard; near-duplicates across shards stay. With `shards: 1` all duplicates are found.
"""

import argparse
import hashlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataset_builder import reports, splits
from dataset_builder.text.clean import Filtered, Rules, clean, filter_documents, merge_reports
from dataset_builder.text.document import Document
from dataset_builder.text.sources import open_source, source_fingerprint
from pipeline import closure, manifest, seeds
from pipeline.errors import UserError, did_you_mean
from pipeline.fanout import fan_out
from pipeline.locks import locked
from pipeline.outputs import parts_folder, put, remove_parts, write_json
from pipeline.ownership import check_folder, check_rows
from pipeline.params import Params
from pipeline.paths import CORPORA, METRICS
from pipeline.schema import arrow_schema
from pipeline.settings import TextCorpus
from pipeline.shards import write_shard
from pipeline.stage import log, progress, read_json, run_stage
from pipeline.types import Modality

BATCH = 256  # documents in one unit of work; a fixed number, so that workers change nothing
STATE = "state"  # below the folder of a corpus in the making: what its finished steps have left
MODALITY = Modality("text")
SCHEMA = arrow_schema(MODALITY)
RAW_SCHEMA = pa.schema(
    {"id": pa.string(), "text": pa.string(), "meta": pa.map_(pa.string(), pa.string())}
)


@dataclass(frozen=True, slots=True)
class Batch:
    """One row group of a shard's raw documents, and how to clean them."""

    path: str
    row_group: int
    rules: Rules


def build_text(
    settings: TextCorpus, seed: int, output_dir: str | Path, workers: int
) -> dict[str, Any]:
    """Build `<output_dir>/<settings.name>` unless it is there already, and return its report.

    The same settings, source and seed give the same bytes, whatever the number of workers.

    Raises:
        UserError: the source cannot be read, or no document passed the filters.
    """
    folder = Path(output_dir) / settings.name
    decides = _decides(settings, seed)
    with locked(folder):
        if report := reports.finished(folder, decides):
            log.info("%s: unchanged, nothing to do", folder)
            remove_parts(folder)
            return report
        check_folder(folder, "report.json", "settings", lambda report: report.get("files", ()))
        work = parts_folder(folder, manifest.fingerprint(decides))
        if not (report := reports.finished(work, decides)):
            report = _build(settings, seed, decides, work, workers)
        shutil.rmtree(work / STATE, ignore_errors=True)
        put(work, folder)
        return report


def _build(
    settings: TextCorpus, seed: int, decides: dict[str, Any], work: Path, workers: int
) -> dict[str, Any]:
    """Build the corpus in `work`, from where a stopped run has left it, and return its report."""
    state = work / STATE
    if not state.exists():
        shutil.rmtree(work, ignore_errors=True)
        state.mkdir(parents=True)
    if not (state / "dealt.json").exists():
        documents = open_source(
            settings.source, limit=settings.limit, text_column=settings.text_column
        )
        deal(progress(documents, f"{settings.name}: read", settings.limit), state, settings.shards)
    shards = [_build_shard(settings, seed, work, k, workers) for k in range(settings.shards)]
    report = merge_reports(shards)
    if not report["documents"]["kept"]:
        raise UserError(
            f"{settings.name}: no document of {settings.source} passed the filters "
            f"({report['dropped'] or 'it holds none'}); check language and source"
        )
    report |= {"decides": decides, "settings": settings.model_dump(), "seed": seed}
    write_json(work / "report.json", report)
    return report


def _decides(settings: TextCorpus, seed: int) -> dict[str, Any]:
    """All that decides what is built."""
    return {
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
        "source": source_fingerprint(settings.source),
        "code": closure.digests("dataset_builder.text.build:build_text"),
    }


# ---------------------------------------------------------------- the steps


def deal(documents: Iterable[Document], state: Path, shards: int) -> None:
    """Write `documents` to `raw-<shard>.parquet` in `state`, then `dealt.json` to mark the end."""
    with ExitStack() as stack:
        writers = [
            stack.enter_context(pq.ParquetWriter(_raw(state, k), RAW_SCHEMA, compression="zstd"))
            for k in range(shards)
        ]
        waiting: list[list[Document]] = [[] for _ in range(shards)]
        for document in documents:
            key = hashlib.blake2b(document.text.encode(), digest_size=8).digest()
            shard = int.from_bytes(key, "little") % shards
            waiting[shard].append(document)
            if len(waiting[shard]) == BATCH:
                writers[shard].write_table(_raw_table(waiting[shard]))
                waiting[shard] = []
        for writer, rest in zip(writers, waiting, strict=True):
            if rest:
                writer.write_table(_raw_table(rest))
    write_json(state / "dealt.json", {"shards": shards})


def _raw(state: Path, shard: int) -> Path:
    return state / f"raw-{shard:05d}.parquet"


def _raw_table(documents: list[Document]) -> pa.Table:
    rows = [{"id": d.id, "text": d.text, "meta": list(d.meta.items())} for d in documents]
    return pa.Table.from_pylist(rows, schema=RAW_SCHEMA)


def _build_shard(
    settings: TextCorpus, seed: int, work: Path, shard: int, workers: int
) -> dict[str, Any]:
    """Write one train and one test file, unless that is done, and return the shard's report."""
    done = work / STATE / f"report-{shard:05d}.json"
    if done.exists():
        return read_json(done)
    rules = Rules(
        language=settings.language,
        filters=settings.filters,
        deduplication=settings.deduplication,
        lid_model=settings.lid_model,
        kenlm_model=settings.kenlm_model,
    )
    raw = _raw(work / STATE, shard)
    groups = pq.ParquetFile(raw).num_row_groups
    filtered = fan_out(
        filter_batch,
        [Batch(str(raw.absolute()), group, rules) for group in range(groups)],
        workers=workers,
        desc=f"{settings.name}: filter shard {shard + 1} of {settings.shards}",
    )
    cleaned = clean(filtered, rules)
    texts = [document.text for document in cleaned.documents]
    order = np.random.default_rng(seeds.sequence(seed, settings.name, shard)).permutation(
        len(texts)
    )
    digests = splits.digests(pa.table({"text": texts}, schema=SCHEMA), MODALITY)
    held_out = splits.held_out(digests, settings.test_fraction)
    is_test = np.array([digest in held_out for digest in digests], bool)[order]
    report = cleaned.report | {"rows": {}, "files": {}}
    for split, rows in (("test", order[is_test]), ("train", order[~is_test])):
        name = f"{split}-{shard:05d}-of-{settings.shards:05d}.parquet"
        written = write_shard(work / name, SCHEMA, _text_tables(texts, rows))
        report["rows"][split] = written["rows"]
        report["files"][name] = reports.described(work / name)
    write_json(done, report)
    raw.unlink()
    return report


def filter_batch(batch: Batch) -> Filtered:
    """Filter the documents of one row group."""
    table = pq.ParquetFile(batch.path).read_row_group(batch.row_group)
    documents = (Document(row["id"], row["text"], dict(row["meta"])) for row in table.to_pylist())
    return filter_documents(documents, batch.rules)


def _text_tables(texts: list[str], rows: np.ndarray) -> Iterator[pa.Table]:
    for start in range(0, len(rows), BATCH):
        column = [texts[row] for row in rows[start : start + BATCH]]
        yield pa.table({"text": pa.array(column, pa.string())}, schema=SCHEMA)


# ---------------------------------------------------------------- the command line


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--corpus", help="one corpus of params.yaml; all of them without it")
    parser.add_argument(
        "--output", type=Path, default=CORPORA / "text", help="the corpora's folder"
    )
    parser.add_argument("--metrics", default=METRICS / "text.json", help="the counts for DVC")


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Build the corpora under `text` in the parameter file."""
    names = [corpus.name for corpus in params.text]
    if arguments.corpus not in (None, *names):
        hint = did_you_mean(arguments.corpus, names)
        raise UserError(f"no corpus '{arguments.corpus}' under 'text' in the parameters{hint}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    check_rows(Path(arguments.metrics), ("documents", "megabytes"))
    metrics = {}
    for corpus in params.text:
        if arguments.corpus in (None, corpus.name):
            report = build_text(corpus, params.seed, arguments.output, params.workers)
            metrics[corpus.name] = _counts(report)
            log.info("%s: %s", corpus.name, metrics[corpus.name])
            for name, reason in report["skipped_filters"].items():
                log.info("%s: skipped filter %s: %s", corpus.name, name, reason)
            for warning in report["warnings"]:
                log.warning("%s: %s", corpus.name, warning)
    write_json(arguments.metrics, metrics)


def _counts(report: dict[str, Any]) -> dict[str, Any]:
    return {
        "documents": report["documents"],
        "megabytes": {key: round(n / 1e6, 2) for key, n in report["bytes"].items()},
        "rows": report["rows"],
        "dropped": report["dropped"],
    }


if __name__ == "__main__":
    run_stage(
        main,
        "Build the text corpora of the parameter file.",
        _add_arguments,
        output=lambda arguments: arguments.output,
    )
