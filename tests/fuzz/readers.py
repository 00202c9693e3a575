"""Changes files of a small project at random and lets every reader have a look.

    PYTHONPATH=.:tests/trainer python tests/fuzz/readers.py <folder> <first case> <cases>

Each case is told on standard output before it runs, as one line of JSON, and again afterwards with
what came of it: a crash of the interpreter leaves its case as the last line.
"""

import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mutations
import numpy as np
import pyarrow as pa
import runs
from conftest import TASKS, make_episode, png

from dataset_builder import build, explore, export, task_manifest, validate
from dataset_builder.text.files import read_files
from dataset_builder.vision.sources import FileSource, Rejected
from experts import results, sources
from experts.appo.curve import read_curve
from experts.load import load_policy
from pipeline import manifest, paths
from pipeline.domains import text, vision
from pipeline.errors import LINE, UserError
from pipeline.params import Params, load_params
from pipeline.schema import arrow_schema, to_table
from pipeline.settings import VisionCorpus
from pipeline.shards import write_shard
from pipeline.stage import write_json
from pipeline.tasks import get_task
from trainer import evaluate, report
from trainer.evaluation import summary
from trainer.feed import data as feed
from trainer.feed.specs import load_specs
from trainer.pretrained import read_pretrained
from trainer.reporting.results import load_results

ROOT = Path(__file__).parents[2]
MEMORY = 6 * 2**30
"""Bytes that no reader may exceed."""
SECONDS = 60
PLAYED = TASKS[:4]
EXPERT = "mujoco-pendulum"
PROFILE = f"""
profile: fuzz
workers: 1
mujoco: {{tasks: [{PLAYED[0]}], expert: {{source: shipped}}, collect: {{episodes: 6}}}}
metaworld: {{tasks: [{PLAYED[1]}], expert: {{source: scripted}}, collect: {{episodes: 6}}}}
babyai: {{tasks: [{PLAYED[2]}], expert: {{source: bot}}, collect: {{episodes: 6}}}}
atari: {{tasks: [{PLAYED[3]}], collect: {{steps: 6}}}}
text: [{{name: notes}}]
vision: [{{name: pictures, source: "grids:captions", train: 5, test: 5}}]
"""


# ---------------------------------------------------------------- a small project


def make_project() -> None:
    """Everything that stages leave, in the working directory."""
    rng = np.random.default_rng(0)
    Path("params.yaml").write_text(PROFILE)
    for id in PLAYED:
        collected(id, rng)
    corpora(rng)
    params = load_params()
    folder = paths.DATASET.resolve()
    for source in build.find_sources(params, folder)[0]:
        build.build(source)
    (folder / "README.md").write_text("# A dataset\n")
    expert = paths.expert_folder(get_task(EXPERT))
    shutil.copytree(ROOT / "experts" / "shipped" / EXPERT, expert)
    runs.train(paths.DATASET, steps=1, log_every=1, save_every=1)
    evaluated(params)
    inputs(rng)


def collected(id: str, rng: np.random.Generator) -> None:
    """A task's episodes in two shards, with their records and the manifest."""
    task = get_task(id)
    folder, records = paths.episodes_folder(task), []
    for shard in range(2):
        path = folder / f"shard-{shard:05d}.parquet"
        episodes = [make_episode(id, 4 + k, rng, seed=10 * shard + k) for k in range(3)]
        schema = arrow_schema(task.modality)
        tables = [to_table(task.modality, [episode], "random", "0") for episode in episodes]
        write_shard(path, schema, tables)
        record = manifest.file_record(
            path, fingerprint="0", seeds=[10 * shard + k for k in range(3)], rows=3,
            steps=sum(map(len, episodes)), returns=[e.score for e in episodes], dropped={},
            digests=[f"{shard}{k}" for k in range(3)],
        )  # fmt: skip
        write_json(path.with_suffix(".json"), record)
        records.append(record)
    task_manifest.write_manifest(
        task, {"env": {}, "seed": 0}, {"verdict": "expert", "mean": 1.0}, records,
        engine={"engine": "envpool", "simulator": "x"},
    )  # fmt: skip


def corpora(rng: np.random.Generator) -> None:
    """One corpus of each kind, with its report."""
    notes = paths.corpus_folder("text", "notes")
    pictures = paths.corpus_folder("vision", "pictures")
    for split in ("train", "test"):
        texts = [f"note {k}: " + "all work and no play. " * k for k in range(1, 9)]
        table = pa.table({"text": texts}, arrow_schema(text.DOMAIN.modality))
        write_shard(notes / f"{split}-00000-of-00001.parquet", table.schema, [table])
        images = [{"bytes": png(rng), "path": None} for _ in range(5)]
        table = pa.table(
            {"images": images, "text": [f"noise {k}" for k in range(5)]},
            arrow_schema(vision.DOMAIN.modality),
        )
        write_shard(pictures / f"{split}-00000-of-00001.parquet", table.schema, [table])
    counts = {"documents": {"in": 20, "kept": 16}, "bytes": {"kept": 999}, "dropped": {"short": 4}}
    write_json(notes / "report.json", {**counts, "settings": {"source": "files:x"}})
    split = {"images": 5, "image_bytes": 999, "dropped": {"no image": 2}, "files": {}}
    write_json(pictures / "report.json", {"train": split, "test": split})


def evaluated(params: Params) -> None:
    """What the evaluation, the random play and the training leave."""
    found = {
        task: {"domain": get_task(task).domain, "returns": [1.0, 2.0, 4.0], "success": None}
        for task in params.tasks
    }
    found["notes"] = {"domain": "text", "loss": 2.0, "perplexity": 7.4, "accuracy": 0.4}
    for task, result in found.items():
        write_json(paths.EVALUATION / f"{task}.json", {"key": "0", "result": result})
    baseline = {"mean": 0.5, "std": 1.0, "episodes": 10, "steps": 99, "settings": {}}
    write_json(paths.RANDOM_SCORES, dict.fromkeys(params.tasks, baseline))
    scores = summary.summarise(found, 20, 0)
    write_json(paths.EVALUATION / "scores.json", scores)
    write_json(paths.METRICS / "dataset.json", {"tasks": 6, "rows": 9, "steps": 9, "bytes": 999})


def inputs(rng: np.random.Generator) -> None:
    """What people bring: texts, and pictures with captions."""
    texts, pictures = Path("texts"), Path("images")
    texts.mkdir()
    pictures.mkdir()
    (texts / "a.txt").write_text("A text.\n" * 20)
    (texts / "b.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n' * 10)
    write_shard(
        texts / "c.parquet", pa.schema({"text": pa.string()}), [pa.table({"text": ["x"] * 50})]
    )
    lines = []
    for k in range(6):
        (pictures / f"{k}.png").write_bytes(png(rng))
        lines.append(json.dumps({"file": f"{k}.png", "text": f"picture {k}"}))
    (pictures / "captions.jsonl").write_text("\n".join(lines))


# ---------------------------------------------------------------- its readers


def read_expert(path: Path) -> None:
    """As the gate, the table of results and another project read it."""
    folder, task = paths.expert_folder(get_task(EXPERT)), get_task(EXPERT)
    policy = load_policy(task, folder, seed=0)
    policy.act({"continuous_observations": np.zeros((2, 4), np.float32)}, np.arange(2),
               np.ones(2, bool), np.zeros(2, np.float32))  # fmt: skip
    results.row(folder)
    read_curve(folder / "curve.csv")
    Path("taken").mkdir(exist_ok=True)
    sources.file(task, f"file:{folder}", Path("taken"), {})


def read_episodes(path: Path) -> None:
    """As the dataset is built from them."""
    params = load_params()
    for source in build.find_sources(params, Path("built").resolve())[0]:
        if source.name == path.parent.name:
            build.build(source)
            build.read_statistics(source)


def read_dataset(path: Path) -> None:
    """As validation, exploration, export, the card and training read it."""
    task = path.parent.name
    complaints(lambda: validate.check(validate.ConfigurationCheck(path.parent.resolve(), 0)))
    complaints(lambda: export.export(paths.DATASET, Path("exported"), [task]))
    shutil.rmtree("exported", ignore_errors=True)
    for split in ("train", "test"):
        data = complaints(lambda split=split: feed.load(paths.DATASET, task, split, Path("cache")))
        if data is not None and "images" in data.arrays:
            complaints(lambda data=data: [data.image(row) for row in range(2)])
    shutil.rmtree("cache", ignore_errors=True)
    (path.parent / manifest.NAME).unlink()  # one from elsewhere has none
    feed.load(paths.DATASET, task, "train", Path("cache"))
    explore.explore(paths.DATASET, task, "train", Path("explored"))


def read_model(path: Path) -> None:
    """As evaluation and fine-tuning read it."""
    complaints(lambda: load_specs(paths.JAT))
    read_pretrained(paths.JAT)


def read_results(path: Path) -> None:
    """As the summary of the evaluation and the report read them."""
    params = load_params()
    job_files = [evaluation_job(task) for task in params.tasks]
    complaints(lambda: summary.summarise({job.task: result_of(job) for job in job_files}, 20, 0))
    report.print_table(found := load_results(params))
    report.page(params, found)


@dataclass(frozen=True)
class Job:
    """What of an evaluation's job its reader asks for."""

    task: str
    file: Path


def evaluation_job(task: str) -> Job:
    return Job(task, paths.EVALUATION / f"{task}.json")


def result_of(job: Job) -> dict[str, Any]:
    return evaluate.read_model(job.file, evaluate.Evaluated)["result"]


def read_inputs(path: Path) -> None:
    """As the corpora are made from them."""
    if path.parent.name == "texts":
        list(read_files("texts"))
        return
    corpus = VisionCorpus(name="own", source="files:images", train=4, test=2, image_size=70)
    source = FileSource(Path("images"), corpus, 0)
    for split in ("train", "test"):
        for index in range(source.size(split)):
            with contextlib.suppress(Rejected):
                source.example(split, index)


def complaints(call: Callable[[], Any]) -> Any:
    """What a call returns, or ``None`` if it is refused in a line."""
    try:
        return call()
    except UserError as error:
        check(error)
        return None


def check(error: UserError) -> None:
    """A refusal is one line that may be printed."""
    line = str(error)
    assert line.isprintable(), repr(line)
    assert 0 < len(line) <= LINE, repr(line)


READERS: tuple[tuple[str, Callable[[Path], None]], ...] = (
    ("artifacts/experts/*/*/*.*", read_expert),
    ("artifacts/episodes/*/*/manifest.json", read_episodes),
    ("artifacts/episodes/*/*/*.parquet", read_episodes),
    ("artifacts/dataset/*/*.json", read_dataset),
    ("artifacts/dataset/*/*.parquet", read_dataset),
    ("artifacts/jat/*.*", read_model),
    ("artifacts/evaluation/*.json", read_results),
    ("artifacts/random/scores.json", read_results),
    ("artifacts/corpora/*/*/report.json", read_results),
    ("artifacts/episodes/*/*/manifest.json", read_results),
    ("metrics/*.json", read_results),
    ("texts/*", read_inputs),
    ("images/*", read_inputs),
)
"""The files to change, and who reads them."""


# ---------------------------------------------------------------- one case after the other


def run_case(project: Path, case: int) -> dict[str, Any]:
    """Change one file in a copy of the project, and read it."""
    rng = random.Random(case)
    pattern, reader = READERS[case % len(READERS)]
    files = sorted(project.glob(pattern))
    chosen = rng.choice(files)
    path = chosen.relative_to(project)
    told = {"case": case, "file": str(path), "reader": reader.__name__}
    print(json.dumps(told), flush=True)
    scratch = project.with_name("scratch")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(project, scratch)
    os.chdir(scratch)
    data = path.read_bytes()
    if rng.random() < 0.1:
        data = rng.choice(sorted(project.rglob("*.*"))).read_bytes()
    elif path.suffix == ".json":
        data = mutations.change_json(rng, data)
    elif path.suffix == ".parquet" and rng.random() < 0.5:
        data = change_table(rng, data)
    else:
        data = mutations.change_bytes(rng, data)
    path.write_bytes(data)
    quiet = io.StringIO()
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            reader(path)
        came = "read"
    except UserError as error:
        check(error)
        came = "refused"
    except BaseException:  # what the fuzzer is for
        came = traceback.format_exc()[-3000:]
    finally:
        signal.alarm(0)
        os.chdir(project)
    if "\x1b[31m" in quiet.getvalue():
        came = "an escape of the terminal came through"
    return {**told, "came": came}


def change_table(rng: random.Random, data: bytes) -> bytes:
    """A whole Parquet file with a column gone, renamed, of another type, or with other cells."""
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(data))
    k = rng.randrange(table.num_columns)
    name, rows = table.column_names[k], table.num_rows
    column: Any = table.column(k)
    cells = column.to_pylist()
    choices: list[Any] = [
        pa.array([None] * rows, column.type),
        pa.array([rng.choice([1, 2**40, -1])] * rows),
        pa.array(["\x1b[31mtext[/bold]"] * rows),
        pa.array([[]] * rows, pa.list_(pa.float32())),
        pa.array([[[1.0], [1.0, 2.0]]] * rows),
        pa.array([b"\xff\xfe"] * rows),
        pa.array([[b"short"]] * rows),
        pa.array([{"bytes": b"no picture", "path": None}] * rows),
        pa.array([[float("nan")]] * rows),
        pa.array([cells[0], *[None] * (rows - 1)], column.type),
        pa.array([*cells[1:], cells[0]], column.type),
    ]
    kind = rng.randrange(4)
    if kind == 0:
        table = table.remove_column(k)
    elif kind == 1:
        other = rng.choice([*table.column_names, "\x1b[31m", "", "[red]x[/blue]"])
        table = table.rename_columns([other if n == name else n for n in table.column_names])
    elif kind == 2:
        table = table.slice(0, rng.choice([0, 1]))
    else:
        table = table.set_column(k, name, rng.choice(choices))
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def late(number: int, frame: Any) -> None:
    """Ends what hangs."""
    raise TimeoutError(f"it takes more than {SECONDS} s")


def main(folder: str, first: str, count: str) -> None:
    """Run the cases."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, late)
    project = Path(folder).resolve() / "project"
    project.mkdir(parents=True)
    os.chdir(project)
    with contextlib.redirect_stdout(sys.stderr):
        make_project()
    for case in range(int(first), int(first) + int(count)):
        print(json.dumps(run_case(project, case)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
