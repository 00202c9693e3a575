"""Write a dataset in the layout that JAT's was published in, for code that was written for that.

    python -m dataset_builder.export artifacts/dataset jat-layout --config atari-pong --episodes 10

The columns are those of the published dataset (arXiv 2402.09844) with their types: Atari's frames
become stacks of four, each one RGBA picture (`image_observations`), and discrete observations are
int64. What it does not have, such as seeds, is left out. Its files appear when all are written.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from dataset_builder.publish import read_contents
from dataset_builder.vision.images import encode_png
from pipeline import frames, manifest
from pipeline.errors import UserError, did_you_mean
from pipeline.publication import Publication, check_place, check_target, published
from pipeline.shards import open_shard, read_tables, sha256, write_files
from pipeline.stage import exit_with_one_line, progress, write_atomic

SPLITS = ("train", "test")

_PICTURE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
_IMAGE = {"_type": "Image"}
_FLOAT, _INTEGER, _STRING = ({"dtype": d, "_type": "Value"} for d in ("float32", "int64", "string"))


def _sequence(feature: dict[str, Any]) -> dict[str, Any]:
    return {"feature": feature, "_type": "Sequence"}  # which every release of `datasets` reads


COLUMNS: dict[str, tuple[pa.DataType, dict[str, Any]]] = {
    "image_observations": (pa.list_(_PICTURE), _sequence(_IMAGE)),
    "text_observations": (pa.list_(pa.string()), _sequence(_STRING)),
    "discrete_observations": (pa.list_(pa.list_(pa.int64())), _sequence(_sequence(_INTEGER))),
    "continuous_observations": (pa.list_(pa.list_(pa.float32())), _sequence(_sequence(_FLOAT))),
    "continuous_actions": (pa.list_(pa.list_(pa.float32())), _sequence(_sequence(_FLOAT))),
    "discrete_actions": (pa.list_(pa.int64()), _sequence(_INTEGER)),
    "rewards": (pa.list_(pa.float32()), _sequence(_FLOAT)),
    "images": (_PICTURE, _IMAGE),
    "text": (pa.string(), _STRING),
}
"""Column -> its type in Arrow, and in the notation of `datasets`."""


def published_schema(stored: pa.Schema) -> pa.Schema:
    """The published columns that can be made from the stored ones."""
    names = ["image_observations" if name == "frames" else name for name in stored.names]
    columns = {name: column for name, column in COLUMNS.items() if name in names}
    features = {name: feature for name, (_, feature) in columns.items()}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([(name, type) for name, (type, _) in columns.items()], metadata)


def published_tables(files: list[Path], episodes: int | None = None) -> Iterator[pa.Table]:
    """The rows of shards, at most ``episodes``, in the published columns: a table a row group.

    UserError if a shard is damaged.
    """
    schema = published_schema(open_shard(files[0]).schema_arrow)
    columns = ["frames" if name == "image_observations" else name for name in schema.names]
    left = sys.maxsize if episodes is None else episodes
    for path in files:
        for table in read_tables(path, columns):
            if left == 0:
                return
            table = table.slice(0, left)
            left -= len(table)
            if "frames" in columns:
                table = _with_pictures(table)
            yield table.cast(schema)


def _with_pictures(table: pa.Table) -> pa.Table:
    """Frames replaced by pictures of the last four, the oldest one in the red channel."""
    episodes = []
    for cell in table.column("frames"):
        stacks = frames.stack(frames.from_arrow(cell.values))
        pictures = np.ascontiguousarray(np.moveaxis(stacks, 1, -1))
        episodes.append([{"bytes": encode_png(picture), "path": None} for picture in pictures])
    position = table.column_names.index("frames")
    column = pa.array(episodes, pa.list_(_PICTURE))
    return table.set_column(position, "image_observations", column)


def export(
    folder: Path, target: Path, configs: list[str] | None = None, episodes: int | None = None
) -> None:
    """Write a dataset, or at most ``episodes`` rows of each split of it, to a new folder.

    UserError if the dataset or one of ``configs`` is not there or damaged, or if ``target`` holds
    anything but an earlier export, whose files are replaced.
    """
    contents = read_contents(folder)
    for name in configs or []:
        if name not in contents:
            raise UserError(f"'{folder}' has no '{name}'{did_you_mean(name, contents)}")
    place = check_place(target, [folder], f"'{target}'")
    marker = check_target(place, Publication("export", str(folder.resolve())), f"'{target}'")
    with published(place, marker) as temporary:
        written = {
            name: _write_config(folder / name, contents[name], temporary / name, episodes)
            for name in sorted(set(configs or contents))
        }
        write_atomic(temporary / "README.md", _readme(written))


def _write_config(
    folder: Path, content: dict[str, Any], target: Path, episodes: int | None
) -> dict[str, list[Path]]:
    """Write one configuration; split -> its files."""
    files = {
        split: [folder / entry["file"] for entry in content["files"] if entry["split"] == split]
        for split in SPLITS
    }
    return {split: write_split(paths, target, split, episodes) for split, paths in files.items()}


def write_split(
    files: list[Path], folder: Path, split: str, episodes: int | None = None
) -> list[Path]:
    """Write the rows of shards to files ``<folder>/<split>-00000-of-0000N.parquet``: the result."""
    if not files:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    groups = sum(open_shard(path).num_row_groups for path in files)
    tables = progress(
        published_tables(files, episodes),
        f"export {folder.name} {split}",
        total=groups if episodes is None else None,
        unit="row groups",
    )
    return write_files(folder, split, published_schema(open_shard(files[0]).schema_arrow), tables)


def _readme(written: dict[str, dict[str, list[Path]]]) -> str:
    """What `datasets` needs to find the splits of each configuration."""
    configs = []
    for name, splits in written.items():
        sums = {path.name: sha256(path) for paths in splits.values() for path in paths}
        config = {
            "config_name": name,
            # `datasets` tells cached data apart by this header alone.
            "description": f"contents {manifest.fingerprint(sums)[:12]}",
            "data_files": [
                {"split": split, "path": f"{name}/{split}-*.parquet"}
                for split, paths in splits.items()
                if paths
            ],
        }
        configs.append(config)
    header = yaml.safe_dump({"configs": configs}, sort_keys=False)
    return f"""---
{header}---
# Jack of All Trades, in the published layout

Written by `python -m dataset_builder.export`. The columns and types are those of Gallouédec et al.
2024 ([arXiv 2402.09844](https://arxiv.org/abs/2402.09844)); the data is made anew.
"""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a dataset, such as artifacts/dataset")
    parser.add_argument("target", type=Path, help="a new folder, or that of an earlier export")
    parser.add_argument("--config", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--episodes", type=_positive, metavar="N", help="rows a split, at most")
    arguments = parser.parse_args()

    def run() -> None:
        export(arguments.folder, arguments.target, arguments.config, arguments.episodes)
        print(f"wrote {arguments.target}")

    exit_with_one_line(run)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


if __name__ == "__main__":
    main()
