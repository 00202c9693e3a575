"""Stage: all episodes and corpora of the profile as one dataset in the layout of the Hub.

    artifacts/dataset/README.md                              the card, one configuration a task
    artifacts/dataset/<task>/train-00000-of-0000N.parquet    and test-…
    artifacts/dataset/<task>/statistics.json                 per split
    artifacts/dataset/<task>/manifest.json                   where it comes from, checksums

A task's folder appears whole, and is written again only when what it is made from has changed.
"""

import argparse
import itertools
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dataset_builder import splits, validate
from dataset_builder.card import card
from dataset_builder.statistics import DocumentStatistics, EpisodeStatistics
from pipeline import closure, content, manifest, paths, schema
from pipeline.domains import CORPUS_DOMAINS, get_domain
from pipeline.errors import UserError
from pipeline.fanout import fan_out
from pipeline.files import (
    CollectedManifest,
    CorpusReport,
    DatasetManifest,
    DocumentsStatistics,
    EpisodesStatistics,
    read_model,
)
from pipeline.outputs import sweep
from pipeline.params import Params
from pipeline.shards import open_shard, read_group, read_tables, write_files
from pipeline.stage import (
    log,
    replaced_folder,
    run_stage,
    write_atomic,
    write_json,
)
from pipeline.tasks import get_task
from pipeline.types import Modality

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Configuration:
    """What one configuration of the dataset is made from."""

    name: str
    domain: str
    modality: Modality
    files: dict[str, list[Path]]
    """Split -> files; episodes are under ``all`` and split here."""
    test_fraction: float
    provenance: dict[str, Any]
    """What the manifest tells about the origin."""
    folder: Path
    """The folder of the configuration."""

    @property
    def decides(self) -> dict[str, Any]:
        """Whatever decides the files."""
        files = [path for paths in self.files.values() for path in paths]
        return {
            "provenance": self.provenance,
            "test_fraction": self.test_fraction,
            "schema": schema.VERSION,
            "contents": content.contents(files),
            "code": closure.digests("dataset_builder.build:build"),
        }

    def __str__(self) -> str:
        return self.name


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Build what has changed, drop what is no longer asked for, write the card, validate."""
    folder = paths.DATASET.resolve()
    sources, left_out = find_sources(params, folder)
    if not sources:
        raise UserError("the profile has neither tasks nor corpora with data: collect some first")
    stale = [source for source in sources if not is_built(source)]
    log.info("%d of %d configurations are unchanged", len(sources) - len(stale), len(sources))
    for source in stale:
        explain(source)
    fan_out(build, stale, workers=params.workers, desc="build (configurations)")
    remove_others(folder, {source.name for source in sources})
    contents = [manifest.read_manifest(source.folder, DatasetManifest) for source in sources]
    statistics = {source.name: read_statistics(source) for source in sources}
    write_atomic(folder / "README.md", card(contents, statistics, left_out))
    write_json(paths.METRICS / "dataset.json", metrics(contents, statistics))
    validate.check_or_stop(folder, replay=0, workers=params.workers)


def read_statistics(source: Configuration) -> dict[str, Any]:
    """``statistics.json`` of a configuration that is built."""
    shape = EpisodesStatistics if source.modality.episodic else DocumentsStatistics
    return read_model(source.folder / "statistics.json", shape)


def find_sources(params: Params, folder: Path) -> tuple[list[Configuration], dict[str, str]]:
    """The configurations of a profile; and task -> why it has none."""
    sources, left_out = [], {}
    for id in params.tasks:
        fraction = params.domain(get_task(id).domain).collect.test_fraction
        source = episodes_source(id, fraction, folder)
        if source.files["all"]:
            sources.append(source)
        else:
            left_out[id] = source.provenance.get("skipped", "no episodes")
    for kind in CORPUS_DOMAINS:
        sources += [corpus_source(kind, corpus.name, folder) for corpus in getattr(params, kind)]
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two corpora are named '{name}': rename one in params.yaml")
    return sources, left_out


def episodes_source(id: str, test_fraction: float, folder: Path) -> Configuration:
    """The collected episodes of one task."""
    task = get_task(id)
    origin = paths.episodes_folder(task).resolve()
    told = manifest.read_manifest(origin, CollectedManifest)
    files = [origin / entry["file"] for entry in told["files"] if entry["rows"]]
    checksums = [entry["sha256"] for entry in told["files"]]
    provenance = {
        key: told[key]
        for key in ("decides", "expert", "engine", "dropped", "skipped")
        if key in told
    } | {"shards_sha256": manifest.fingerprint({"sha256": checksums})}
    return Configuration(
        id, task.domain, task.modality, {"all": files}, test_fraction, provenance, folder / id
    )


def corpus_source(domain: str, name: str, folder: Path) -> Configuration:
    """One corpus, which its own stage has split."""
    origin = paths.corpus_folder(domain, name).resolve()
    report = read_model(origin / "report.json", CorpusReport)
    files = {split: sorted(origin.glob(f"{split}-*.parquet")) for split in SPLITS}
    if not files["train"]:
        raise UserError(f"'{origin}' has no train-*.parquet: run the stage that builds it")
    modality = get_domain(domain).modality
    assert modality is not None
    return Configuration(name, domain, modality, files, 0.0, {"report": report}, folder / name)


def is_built(source: Configuration) -> bool:
    """Whether the configuration is there and would come out the same."""
    if not (source.folder / manifest.NAME).exists():
        return False
    known = manifest.read_manifest(source.folder)
    return known.get("decides") == source.decides and all(
        content.same_content(source.folder / entry["file"], entry["bytes"], entry["sha256"])
        for entry in known["files"]
    )


def explain(source: Configuration) -> None:
    """Say why a configuration that is there is built again."""
    if (source.folder / manifest.NAME).exists():
        old = manifest.read_manifest(source.folder).get("decides")
        reason = manifest.difference(old, source.decides) or "its files"
        log.info("%s: built again, as this changed: %s", source.name, reason)


def build(source: Configuration) -> None:
    """Write one configuration; UserError if a file is not the one that was collected."""
    if source.modality.episodic:
        origin = source.files["all"][0].parent
        files = manifest.read_manifest(origin)["files"]
        for entry in files:
            path = origin / entry["file"]
            if not content.same_content(path, entry["bytes"], entry["sha256"]):
                raise UserError(f"'{path}' is not what was collected: delete it and collect again")
        found = [episode_digests(path, source.modality) for path in source.files["all"]]
        test = splits.held_out(itertools.chain(*found), source.test_fraction)
        streams = {
            split: select(source.files["all"], found, test, split == "test") for split in SPLITS
        }
        distinct = len(set(itertools.chain(*found)))
    else:
        streams = {split: _chain(source.files[split]) for split in SPLITS}
        distinct = None
    arrow_schema = schema.arrow_schema(source.modality)
    statistics, files = {}, []
    with replaced_folder(source.folder) as folder:
        for split, tables in streams.items():
            seen = EpisodeStatistics() if source.modality.episodic else DocumentStatistics()
            written = write_files(folder, split, arrow_schema, seen.watch(tables))
            statistics[split] = seen.summary()
            files += [
                manifest.file_record(path, split=split, rows=open_shard(path).metadata.num_rows)
                for path in written
            ]
        write_json(folder / "statistics.json", statistics)
        record = {
            "task": source.name,
            "domain": source.domain,
            "modality": asdict(source.modality),
            "decides": source.decides,
            "provenance": source.provenance,
            "test_fraction": source.test_fraction,
            "distinct": distinct,
            "schema": schema.VERSION,
            "files": files,
        }
        write_json(folder / manifest.NAME, record)


def episode_digests(path: Path, modality: Modality) -> list[splits.Digest]:
    """What each episode of a file is known by (see ``splits.digests``)."""
    names = splits.content_columns(open_shard(path).schema_arrow.names, modality)
    tables = read_tables(path, names)
    return [digest for table in tables for digest in splits.digests(table, modality)]


def select(
    files: Sequence[Path],
    found: Sequence[Sequence[splits.Digest]],
    test: Collection[splits.Digest],
    wanted: bool,
) -> Iterator[pa.Table]:
    """The episodes that are in ``test`` (``wanted``), or those that are not.

    ``found`` has the digests of each file's episodes.
    """
    for path, digests in zip(files, found, strict=True):
        file, start = open_shard(path), 0
        for group in range(file.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            mask = np.array([(digest in test) == wanted for digest in digests[start:stop]])
            start = stop
            if mask.any():
                yield read_group(file, path, group).filter(pa.array(mask))


def _chain(files: Iterable[Path]) -> Iterator[pa.Table]:
    for path in files:
        yield from read_tables(path)


def remove_others(folder: Path, names: set[str]) -> None:
    """Remove configurations that the profile no longer has, and what killed runs left."""
    sweep(folder)
    for path in folder.glob("[!.]*"):
        if (path / manifest.NAME).exists() and path.name not in names:
            shutil.rmtree(path)


def metrics(contents: list[dict[str, Any]], statistics: dict[str, Any]) -> dict[str, int]:
    """What ``dvc metrics`` shows; the card and statistics.json tell it task by task."""
    files = [entry for content in contents for entry in content["files"]]
    return {
        "tasks": len(contents),
        "rows": sum(entry["rows"] for entry in files),
        "steps": sum(
            splits[split].get("steps", 0) for splits in statistics.values() for split in SPLITS
        ),
        "bytes": sum(entry["bytes"] for entry in files),
    }


if __name__ == "__main__":
    run_stage(
        main,
        "Build the dataset: Parquet files, statistics and a card, validated.",
        output=lambda arguments: paths.DATASET,
    )
