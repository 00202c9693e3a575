"""The dataset's card: what is in it, how good its experts are, how to load it."""

from collections.abc import Iterable
from typing import Any

import yaml

from pipeline import manifest
from pipeline.domains import get_domain
from pipeline.parity import parity_of
from pipeline.schema import VERSION, columns
from pipeline.tasks import get_task
from pipeline.types import Modality

LICENSE = "apache-2.0"
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"),
         (10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"))  # fmt: skip
"""The Hub's names for numbers of rows."""
COLUMN_NOTES = {
    "continuous_observations": "what the agent sees before each action",
    "continuous_actions": "the action taken, clipped to the action box",
    "discrete_observations": "the integers that the agent sees before each action (in BabyAI the "
    "direction, then the 7·7·3 symbols of the view)",
    "text_observations": "the text that comes with them, such as the mission",
    "discrete_actions": "the action taken",
    "frames": "the newest 84×84 grey frame before each action, 7,056 bytes, row by row",
    "rewards": "what the action in the same place earned, unclipped",
    "terminated": "the episode ended by the rules of the task",
    "truncated": "the episode ended by the time limit",
    "seed": "the seed of the environment",
    "reset_index": "how many episodes that environment had played before",
    "policy": "who played",
    "policy_checksum": "sha256 of the player's weights or source",
    "final_observation": "what the agent saw after the last action",
    "success": "whether the step succeeded",
    "text": "a document, a caption, or a question with its answer",
    "images": "the image, as an encoded file",
}


def card(
    contents: list[dict[str, Any]], statistics: dict[str, Any], left_out: dict[str, str]
) -> str:
    """README.md: ``contents`` are the configurations' manifests, ``statistics`` theirs by name."""
    episodic = [content for content in contents if _modality(content).episodic]
    corpora = [content for content in contents if not _modality(content).episodic]
    sections = [
        _header(contents),
        _introduction(contents),
        _loading(contents),
        _episodes(episodic, statistics) if episodic else "",
        _left_out(left_out) if left_out else "",
        _corpora(corpora) if corpora else "",
        _columns(contents),
        _rebuilding_stacks() if any(_modality(c).observation == "image" for c in contents) else "",
        _checking(),
    ]
    return "\n".join(section for section in sections if section)


def _header(contents: list[dict[str, Any]]) -> str:
    rows = sum(entry["rows"] for content in contents for entry in content["files"])
    size = next((name for limit, name in SIZES if rows < limit), "1B<n<10B")
    episodic = any(_modality(content).episodic for content in contents)
    header = {
        "pretty_name": "Jack of All Trades",
        "license": LICENSE,
        "task_categories": ["reinforcement-learning"] if episodic else ["text-generation"],
        "tags": ["reinforcement-learning", "imitation-learning", "generalist-agent"],
        "size_categories": [size],
        "configs": [
            {
                "config_name": content["task"],
                # `datasets` tells cached data apart by this header alone: without the checksum
                # it would go on serving the rows of an earlier build.
                "description": f"contents {_version([content])}",
                "data_files": [
                    {"split": split, "path": f"{content['task']}/{split}-*.parquet"}
                    for split in ("train", "test")
                    if _rows(content, split)
                ],
            }
            for content in contents
        ],
    }
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n"


def _introduction(contents: list[dict[str, Any]]) -> str:
    files = [entry for content in contents for entry in content["files"]]
    size = sum(entry["bytes"] for entry in files)
    return f"""# Jack of All Trades: episodes of experts, texts and images

{len(contents)} configurations, {sum(entry["rows"] for entry in files):,} rows, {_size(size)} of
Parquet. In the configurations of environments a row is a whole episode, from an expert of that one
task; every row names its player and the seed that plays it again. The tasks and the columns are
those of Gallouédec et al. 2024, *Jack of All Trades, Master of Some*
([arXiv 2402.09844](https://arxiv.org/abs/2402.09844)); the data is made anew.

Version of the contents: `{_version(contents)}` (it changes with any file), schema {VERSION}.
"""


def _loading(contents: list[dict[str, Any]]) -> str:
    example = contents[0]["task"]
    return f"""## Loading

```python
from datasets import load_dataset

episodes = load_dataset("path/or/repository", "{example}", split="train", streaming=True)
first = next(iter(episodes))
```

Without `streaming=True` the whole configuration is converted once and then memory-mapped. Each
configuration is a folder `<name>/{{train,test}}-00000-of-0000N.parquet` with `statistics.json`
(returns, lengths; mean and deviation of continuous observations and actions) and `manifest.json`
(what decided the data, and the files' checksums).
"""


def _episodes(contents: list[dict[str, Any]], statistics: dict[str, Any]) -> str:
    lines = [
        "## Environments",
        "",
        "Returns are undiscounted sums over an episode, mean ± standard deviation over the train "
        "split. *Random* and *published expert* are the reference scores published with JAT. "
        "*Expert* is what the expert scored before it was let play, with the verdict of that gate.",
        "",
        "| configuration | train | test | steps | size | return | expert | random | "
        "published expert | environment | engine |",
        "|---|--:|--:|--:|--:|--:|---|--:|--:|---|---|",
    ]
    for content in contents:
        name = content["task"]
        task, train = get_task(name), statistics[name]["train"]
        steps = train["steps"] + statistics[name]["test"]["steps"]
        returns = train["returns"]
        cells = [
            f"`{name}`",
            f"{_rows(content, 'train'):,}",
            f"{_rows(content, 'test'):,}",
            f"{steps:,}",
            _size(sum(entry["bytes"] for entry in content["files"])),
            f"{returns['mean']:.2f} ± {returns['std']:.2f}",
            _verdict(content["provenance"]["expert"]),
            _number(task.random_mean),
            _number(task.expert_mean),
            f"`{task.gymnasium_id}`",
            _engine(content),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *_notes(contents, statistics)]
    return "\n".join(lines) + "\n"


def _notes(contents: list[dict[str, Any]], statistics: dict[str, Any]) -> Iterable[str]:
    """Remarks on single tasks: success, and episodes that were given up."""
    rates = [
        f"`{c['task']}` {statistics[c['task']]['train']['success_rate']:.0%}"
        for c in contents
        if "success_rate" in statistics[c["task"]]["train"]
    ]
    if rates:
        domains = dict.fromkeys(content["domain"] for content in contents)
        known = [sentence for name in domains if (sentence := get_domain(name).success)]
        yield f"{' '.join(known)} Episodes of the train split that succeed: {', '.join(rates)}."
        yield ""
    yield from _engines(contents)
    for content in contents:
        distinct, rows = content.get("distinct"), _rows(content)
        if distinct is not None and distinct < rows:
            yield f"- `{content['task']}`: {distinct:,} of {rows:,} episodes are distinct"
    yield ""
    if any(content["provenance"]["dropped"] for content in contents):
        yield "Episodes that the expert gave up are not stored:"
        yield ""
    for content in contents:
        dropped = content["provenance"]["dropped"]
        if dropped:
            reasons = "; ".join(
                f"{reason} ({count:,})" for reason, count in sorted(dropped.items())
            )
            yield f"- `{content['task']}`: {sum(dropped.values()):,}, {reasons}"


def _engine(content: dict[str, Any]) -> str:
    engine = content["provenance"].get("engine")
    return f"{engine['engine']}, {engine['simulator']}" if engine else "–"


def _engines(contents: list[dict[str, Any]]) -> Iterable[str]:
    """How far the engines are the reference implementations, as it was measured."""
    engines = {c["task"]: c["provenance"].get("engine") for c in contents}
    found = {task: parity_of(task, engine) for task, engine in engines.items() if engine}
    equal = [task for task, verdict in found.items() if verdict == "equal"]
    yield (
        f"The engine of {len(equal)} of {len(found)} environments was compared with the reference "
        "implementation and equals it: spaces, first observations, what moves, rewards of the same "
        "actions, random returns, time limits, ends of episodes (`pipeline/data/parity.csv`)."
    )
    yield ""
    yield from (f"- `{task}`: {verdict}" for task, verdict in found.items() if verdict != "equal")


def _left_out(left_out: dict[str, str]) -> str:
    lines = [f"- `{name}`: {reason}" for name, reason in sorted(left_out.items())]
    return "\n".join(["## Left out", "", *lines]) + "\n"


def _corpora(contents: list[dict[str, Any]]) -> str:
    lines = [
        "## Texts and images",
        "",
        "Texts and images keep the licences of their sources.",
        "",
        "| configuration | kind | source | train | test | size |",
        "|---|---|---|--:|--:|--:|",
    ]
    for content in contents:
        settings = content["provenance"]["report"].get("settings", {})
        cells = [
            f"`{content['task']}`",
            content["domain"],
            f"`{settings.get('source', '')}`",
            f"{_rows(content, 'train'):,}",
            f"{_rows(content, 'test'):,}",
            _size(sum(entry["bytes"] for entry in content["files"])),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _columns(contents: list[dict[str, Any]]) -> str:
    lines = ["## Columns", ""]
    groups: dict[Modality, list[dict[str, Any]]] = {}
    for content in contents:
        groups.setdefault(_modality(content), []).append(content)
    for modality, group in groups.items():
        domains = dict.fromkeys(get_domain(content["domain"]).title for content in group)
        kinds = modality.observation
        if modality.episodic:
            kinds = f"{kinds} observations, {modality.action} actions"
        lines += [f"**{', '.join(domains)}** ({kinds})", "", "| column | type | meaning |"]
        lines += ["|---|---|---|"]
        lines += [
            f"| `{name}` | `{_type(type)}` | {COLUMN_NOTES[name]} |"
            for name, type in columns(modality).items()
        ]
        lines.append("")
    return "\n".join(lines)


def _modality(content: dict[str, Any]) -> Modality:
    return Modality(**content["modality"])


def _rebuilding_stacks() -> str:
    return """## Stacks of Atari frames

The agent sees the last four frames; each frame is stored once. Before its first frame an episode
is filled up with that frame:

```python
import numpy as np

frames = np.frombuffer(b"".join(first["frames"]), np.uint8).reshape(-1, 84, 84)
padded = np.concatenate([frames[:1].repeat(3, axis=0), frames])
stacks = np.lib.stride_tricks.sliding_window_view(padded, 4, axis=0)  # (T, 84, 84, 4)
```

`pipeline.frames.stack` of the project does the same in the order (T, 4, 84, 84).
"""


def _checking() -> str:
    return """## Checking

`python -m dataset_builder.validate <folder> --replay 2` checks checksums, lengths, ranges and
statistics, and plays episodes again from their seeds: they must come out bit by bit.
"""


def _version(contents: list[dict[str, Any]]) -> str:
    """Twelve digits that change with any file of these configurations."""
    sums = {content["task"]: [e["sha256"] for e in content["files"]] for content in contents}
    return manifest.fingerprint(sums)[:12]


def _rows(content: dict[str, Any], split: str | None = None) -> int:
    return sum(entry["rows"] for entry in content["files"] if split in (None, entry["split"]))


def _verdict(expert: dict[str, Any]) -> str:
    score = expert.get("mean")
    return expert["verdict"] if score is None else f"{score:.2f} ({expert['verdict']})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.2f}"


def _size(count: int) -> str:
    """Bytes in decimal units."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def _type(type: Any) -> str:
    """An Arrow type without the names of list items."""
    return str(type).replace("element: ", "").replace("item: ", "")
