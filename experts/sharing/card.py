"""The model card of one expert: README.md with metadata for the Hub, and its learning curve."""

import io
from typing import Any

import yaml

from pipeline.types import Task

CARD = """---
{metadata}---
# {title}: an expert of Jack of All Trades

A policy for `{environment}`, trained with APPO (Sample Factory) on EnvPool's `{engine}`: one of the
experts from whose play the dataset of Jack of All Trades is made. `replay.mp4` shows it.

## Score

| mean return | 95 % interval | episodes | success | random play | published expert | verdict |
|---|---|---|---|---|---|---|
| {score} |

Undiscounted returns, mean ± standard deviation, actions by `{mode}`; the interval is a bootstrap of
the mean. The published expert is that of JAT (arXiv 2402.09844). An `expert` reaches 90 % of its
normalised score, or succeeds in 90 % of its episodes; a `weak` one is better than random play with
95 % confidence; a `failed` one is not.

## Load it

With the project installed:

```python
{load}
```

Its score again, on the same episodes:

```sh
{download}python -m experts.score --task {task} --folder {task} --params {task}/params.yaml \\
  --episodes {episodes} --seed {seed}
```
{curve}
## Hyperparameters

| setting | value |
|---|---|
{settings}

## Provenance

{provenance}

Made with: {versions}.

`config.json` holds the network, its settings and this provenance; `model.safetensors` the acting
half of the network with its observation statistics (sha256 `{sha256}`).
"""
TRAINED = """Trained in {minutes} by this command, beside the `params.yaml` of this repository:

```sh
{command}
```"""
LOCAL = """from experts.load import load_policy
from pipeline.tasks import get_task

policy = load_policy(get_task("{task}"), "{task}", seed=0)"""
HUB = """from huggingface_hub import snapshot_download
from experts.load import load_policy
from pipeline.tasks import get_task

folder = snapshot_download("{owner}/{task}")
policy = load_policy(get_task("{task}"), folder, seed=0)"""


def card(
    task: Task, config: dict[str, Any], score: dict[str, Any], owner: str | None, curve: bool
) -> str:
    """README.md, for ``<owner>/<task>`` on the Hub or for a folder named as the task.

    ``config`` and ``score`` are those of ``experts.sharing.described.Described``; ``curve`` says
    whether there is a picture of one.
    """
    load = (HUB if owner else LOCAL).format(owner=owner, task=task.id)
    picture = "\n## Learning curve\n\n![learning curve](curve.png)\n" if curve else ""
    return CARD.format(
        metadata=yaml.safe_dump(metadata(task, score), sort_keys=False, allow_unicode=True),
        title=task.title,
        environment=task.gymnasium_id,
        engine=task.envpool_id,
        score=" | ".join(score_cells(score)),
        mode=config["mode"],
        load=load,
        task=task.id,
        download=f"hf download {owner}/{task.id} --local-dir {task.id}\n" if owner else "",
        episodes=score["episodes"],
        seed=config["provenance"]["score"]["seed"],
        curve=picture,
        settings="\n".join(f"| {key} | {value} |" for key, value in settings(config).items()),
        provenance=provenance_text(config),
        versions=", ".join(f"{k} {v}" for k, v in config.get("versions", {}).items()) or "unknown",
        sha256=config["weights_sha256"],
    )


def metadata(task: Task, score: dict[str, Any]) -> dict[str, Any]:
    """The front matter: what the Hub indexes (its format is ``huggingface_hub``'s)."""
    metrics: list[dict[str, Any]] = [_metric("mean_reward", mean_std(score))]
    if score["success"] is not None:
        metrics.append(_metric("success_rate", round(score["success"], 4)))
    result = {
        "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
        "dataset": {"name": task.gymnasium_id, "type": task.gymnasium_id},
        "metrics": metrics,
    }
    return {
        "license": "apache-2.0",
        "library_name": "sample-factory",
        "pipeline_tag": "reinforcement-learning",
        "tags": [task.id, "sample-factory", "deep-reinforcement-learning",
                 "reinforcement-learning"],
        "model-index": [{"name": "APPO", "results": [result]}],
    }  # fmt: skip


def _metric(name: str, value: Any) -> dict[str, Any]:
    return {"type": name, "value": value, "name": name, "verified": False}


def mean_std(score: dict[str, Any]) -> str:
    """Mean and deviation as leaderboards write them."""
    return f"{score['mean']:.2f} ± {score['std']:.2f}"


def score_cells(score: dict[str, Any]) -> list[str]:
    """The row of the score table."""
    numbers = [
        "–" if score[key] is None else f"{score[key]:.2f}"
        for key in ("success", "random_mean", "reference_mean")
    ]
    interval = f"{score['low']:.2f} … {score['high']:.2f}"
    return [mean_std(score), interval, str(score["episodes"]), *numbers, f"`{score['verdict']}`"]


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """Name -> value: the budget, the environment's options, and the whole recipe."""
    keys = ("steps", "envs", "seed", "mode", "checkpoint")
    known = {key: config[key] for key in keys if key in config}
    options = {f"env.{key}": value for key, value in config.get("env", {}).items()}
    return {**known, **options, **config.get("recipe", {})}


def provenance_text(config: dict[str, Any]) -> str:
    """How the expert came to be, or where from."""
    made = config["provenance"]
    if "command" in made:
        seconds = made.get("wall_seconds")
        minutes = "an unknown time" if seconds is None else f"{seconds / 60:.1f} minutes"
        return TRAINED.format(minutes=minutes, command=made["command"])
    origin = ", ".join(f"{key} `{value}`" for key, value in config.get("origin", {}).items())
    return f"Taken over from elsewhere: {origin or 'its origin was not recorded'}."


def curve_png(task: Task, rows: list[tuple[int, float, float]], score: dict[str, Any]) -> bytes:
    """The mean return of episodes over agent steps, beside random play and the published expert."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([steps for steps, _, _ in rows], [mean for _, _, mean in rows], marker=".")
    axes.axhline(score["random_mean"], color="grey", linestyle=":", label="random play")
    if score["reference_mean"] is not None:
        axes.axhline(
            score["reference_mean"], color="grey", linestyle="--", label="published expert"
        )
    axes.set(title=task.id, xlabel="agent steps", ylabel="mean return")
    axes.legend()
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()
