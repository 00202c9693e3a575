"""What a profile's experts score, as Markdown: ``python -m experts.results --params FILE``.

Reads what ``experts.train`` left in ``artifacts/experts``; nothing is played again.
"""

from argparse import Namespace
from pathlib import Path
from typing import Any

from experts.appo.curve import read_curve
from pipeline.errors import UserError, plain
from pipeline.files import ExpertConfig, GateScore, read_model
from pipeline.params import Params
from pipeline.paths import expert_folder
from pipeline.stage import run_stage
from pipeline.tasks import get_task

HEADER = (
    "| task | source | mode | steps | training | return | 95 % interval | episodes | success "
    "| random | published | verdict |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def minutes(curve: Path) -> str:
    """Wall time of a training run, from its learning curve."""
    rows = read_curve(curve) if curve.exists() else []
    return f"{rows[-1][1] / 60:.1f} min" if rows else ""


def row(folder: Path) -> str | None:
    """One expert's line; None where there is no expert."""
    if not (folder / "score.json").exists():
        return None
    config = read_model(folder / "config.json", ExpertConfig)
    score = read_model(folder / "score.json", GateScore)
    cells: list[Any] = [
        score["task"],
        config.get("source", ""),
        config.get("mode", ""),
        f"{config['steps']:,}" if "steps" in config else "",
        minutes(folder / "curve.csv"),
        f"{score['mean']:.2f} ± {score['std']:.2f}",
        f"{score['low']:.2f} … {score['high']:.2f}",
        score["episodes"],
        "" if score["success"] is None else f"{score['success']:.2f}",
        f"{score['random_mean']:.2f}",
        "" if score["reference_mean"] is None else f"{score['reference_mean']:.2f}",
        score["verdict"],
    ]
    return plain(f"| {' | '.join(map(str, cells))} |")


def table(params: Params) -> str:
    """All experts of the profile; UserError when there are none."""
    rows = [row(expert_folder(get_task(task))) for task in params.tasks]
    known = [line for line in rows if line]
    if not known:
        raise UserError("no expert has been made: run `dvc repro train_mujoco` first")
    return "\n".join([HEADER, *known])


def main(params: Params, arguments: Namespace) -> None:
    """Print the table."""
    print(table(params))


if __name__ == "__main__":
    run_stage(main, "Tabulate the scores of the experts.")
