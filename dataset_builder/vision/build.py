"""Stage: images with captions or questions as Parquet shards, a report and a contact sheet.

    python -m dataset_builder.vision.build --corpus grid-captions

A corpus is a folder `<output>/<name>` with `train-*.parquet`, `test-*.parquet`, `report.json` and
`samples.png`. It appears all at once; a finished one is built again only when its settings change,
and a stopped run takes up the parts that it had finished.
"""

from __future__ import annotations

import argparse
import functools
import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dataset_builder import reports
from dataset_builder.vision.contact_sheet import contact_sheet
from dataset_builder.vision.images import Rejected
from dataset_builder.vision.shards import SplitWriter
from dataset_builder.vision.sources import Example, Source, open_source
from pipeline import closure, manifest
from pipeline.errors import UserError, did_you_mean
from pipeline.fanout import fan_out
from pipeline.locks import locked
from pipeline.outputs import (
    parts_folder,
    remove_parts,
    replaced_folder,
    write_atomic,
    write_json,
)
from pipeline.ownership import check_folder, check_rows
from pipeline.params import Params
from pipeline.paths import CORPORA, METRICS
from pipeline.settings import VisionCorpus
from pipeline.stage import log, run_stage

SAMPLES = 12
SAMPLE_SHEET = "samples.png"
PNG_SIGNATURE = b"\x89PNG"
PART_SCHEMA = pa.schema(
    {"image": pa.binary(), "text": pa.string(), "kind": pa.string(), "dropped": pa.string()}
)


@dataclass(frozen=True)
class Part:
    """A run of a source's candidates, and the file that holds what became of them."""

    corpus: VisionCorpus
    seed: int
    split: str
    start: int
    stop: int
    path: Path


def build_vision(
    corpus: VisionCorpus, seed: int, output_dir: str | Path, workers: int
) -> dict[str, Any]:
    """Build `<output_dir>/<corpus.name>` unless it is there already, and return its report.

    Raises:
        UserError: the source is missing or of the wrong shape, or a split came out empty.
    """
    folder = Path(output_dir) / corpus.name
    source = open_source(corpus, seed)
    decides = _decides(source)
    with locked(folder):
        if report := reports.finished(folder, decides):
            log.info("%s: unchanged, nothing to do", folder)
        else:
            check_folder(folder, "report.json", "settings", _files)
            report = _build(source, decides, folder, workers)
        remove_parts(folder)
    return report


def _build(source: Source, decides: dict[str, Any], folder: Path, workers: int) -> dict[str, Any]:
    """Build a corpus, and return its report."""
    corpus, seed = source.corpus, source.seed
    parts = parts_folder(folder, manifest.fingerprint(decides))
    with replaced_folder(folder) as staging:
        report = {"decides": decides, "settings": corpus.model_dump(), "seed": seed}
        report["test"], seen = _build_split(source, "test", parts, staging, workers)
        report["train"], _ = _build_split(source, "train", parts, staging, workers, seen)
        write_atomic(staging / SAMPLE_SHEET, _samples(staging, report["train"]["files"]))
        write_json(staging / "report.json", report)
    return report


def _decides(source: Source) -> dict[str, Any]:
    """All that decides what is built."""
    return {
        "settings": source.corpus.model_dump(mode="json"),
        "seed": source.seed,
        "source": source.version(),
        "code": closure.digests("dataset_builder.vision.build:build_vision"),
    }


def _files(report: dict[str, Any]) -> list[str]:
    """The names of a corpus' files, but for the report itself."""
    splits = (report.get(split, {}) for split in ("train", "test"))
    return [SAMPLE_SHEET, *(name for split in splits for name in split.get("files", ()))]


def _build_split(
    source: Source,
    split: str,
    parts: Path,
    folder: Path,
    workers: int,
    others: frozenset[bytes] = frozenset(),
) -> tuple[dict[str, Any], frozenset[bytes]]:
    """Take candidates in order until there are enough, and say what became of them."""
    corpus = source.corpus
    size = source.size(split)
    wanted = corpus.train if split == "train" else corpus.test
    writer = SplitWriter(folder, split, wanted, others)
    start = 0
    while writer.missing and (size is None or start < size):
        stop = start + _expected_need(writer.missing, start, writer.rows)
        stop = stop if size is None else min(stop, size)
        units = [
            Part(corpus, source.seed, split, k, min(k + source.part, stop), parts / f"{split}-{k}")
            for k in range(start, stop, source.part)
        ]
        desc = f"{corpus.name} {split}"
        fan_out(make_part, units, workers=workers, desc=desc, name=lambda part: part.path.name)
        for unit in units:
            _take(writer, unit)
        start = stop
    files = writer.close()
    if not writer.rows:
        reasons = ", ".join(f"{reason}: {n}" for reason, n in writer.dropped.most_common(3))
        raise UserError(f"'{corpus.source}' gave no {split} image ({reasons or 'it is empty'})")
    if writer.missing:
        log.warning("%s %s: only %d of %d images", corpus.name, split, writer.rows, wanted)
    summary = {
        "wanted": wanted,
        "images": writer.rows,
        "image_bytes": writer.bytes,
        "kinds": dict(sorted(writer.kinds.items())),
        "dropped": dict(sorted(writer.dropped.items())),
        "files": {name: reports.described(folder / name) for name in files},
    }
    return summary, frozenset(writer.images)


def _expected_need(missing: int, asked: int, kept: int) -> int:
    """Candidates to ask for next, when those so far are a fair sample: links die by the third."""
    return missing if not asked else -(-missing * asked // kept) if kept else 10 * missing


def make_part(part: Part) -> None:
    """Ask the source for a part's candidates and write what became of each, unless that is done."""
    if part.path.exists():
        return
    source = open_source(part.corpus, part.seed)
    with ThreadPoolExecutor(source.threads) as pool:
        outcome = functools.partial(_outcome, source, part.split)
        rows = list(pool.map(outcome, range(part.start, part.stop)))
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=PART_SCHEMA), buffer, use_dictionary=False)
    write_atomic(part.path, buffer.getvalue())


def _outcome(source: Source, split: str, index: int) -> dict[str, Any]:
    try:
        example = source.example(split, index)
    except Rejected as reason:
        return {"dropped": str(reason)}
    return {"image": example.image, "text": example.text, "kind": example.kind}


def _take(writer: SplitWriter, part: Part) -> None:
    """Move a part's examples into the shards, as many as are still wanted."""
    for index, row in enumerate(pq.read_table(part.path).to_pylist(), start=part.start):
        if not writer.missing:
            return
        if row["dropped"]:
            writer.dropped[row["dropped"]] += 1
        else:
            extension = "png" if row["image"].startswith(PNG_SIGNATURE) else "jpg"
            name = f"{part.split}-{index:08d}.{extension}"
            writer.add(name, Example(row["image"], row["text"], row["kind"]))


def _samples(folder: Path, files: Iterable[str]) -> bytes:
    """A contact sheet of the first examples."""
    rows = next(pq.ParquetFile(folder / next(iter(files))).iter_batches(SAMPLES)).to_pylist()
    return contact_sheet([(row["images"]["bytes"], row["text"]) for row in rows])


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--corpus", help="one corpus of the parameters; without it, all of them")
    parser.add_argument(
        "--output", type=Path, default=CORPORA / "vision", help="the corpora's folder"
    )
    parser.add_argument("--metrics", default=METRICS / "vision.json", help="where the counts go")


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Build the corpora under `vision` in the parameters, and write their counts."""
    names = [corpus.name for corpus in params.vision]
    if arguments.corpus not in (None, *names):
        hint = did_you_mean(arguments.corpus, names)
        raise UserError(f"no corpus '{arguments.corpus}' under 'vision' in the parameters{hint}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    check_rows(Path(arguments.metrics), ("train", "test"))
    metrics = {}
    for corpus in params.vision:
        if arguments.corpus in (None, corpus.name):
            report = build_vision(corpus, params.seed, arguments.output, params.workers)
            metrics[corpus.name] = {split: _counts(report[split]) for split in ("train", "test")}
            log.info("%s: %s", corpus.name, metrics[corpus.name])
    write_json(arguments.metrics, metrics)


def _counts(split: dict[str, Any]) -> dict[str, Any]:
    return {
        "images": split["images"],
        "megabytes": round(split["image_bytes"] / 1e6, 2),
        "dropped": split["dropped"],
    }


if __name__ == "__main__":
    run_stage(main, __doc__ or "", _add_arguments, output=lambda arguments: arguments.output)
