"""Command: what a setting is worth. Trains and evaluates a model for each variant and seed.

    python -m trainer.study kappa --values 0 0.005 0.05 0.5 --seeds 3
    python -m trainer.study reward --tasks mujoco-ant metaworld-window-close --steps 2000
    python -m trainer.study fixes --only default "no shuffle" --seeds 3

The paper (arXiv 2402.09844) studies κ, the weight of the observation loss, on atari-freeway,
atari-pong, metaworld-button-press-wall, metaworld-window-close, mujoco-ant and
mujoco-doublependulum. What is finished stays below ``artifacts/studies/<study>``, with a table
(``table.csv``, and every task in ``scores.json``) and a figure (``figure.svg``).
"""

import argparse
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.domains import CORPUS_DOMAINS
from pipeline.errors import UserError
from pipeline.params import Params, validate_params
from pipeline.paths import ARTIFACTS, DATASET
from pipeline.stage import log, run_stage
from pipeline.tasks import get_task
from trainer import evaluate, run
from trainer.reporting.study_table import Run, check_study, write_study

STUDIES = ARTIFACTS / "studies"
KAPPAS = (0.0, 0.005, 0.05, 0.5)
DEFAULT = "default"


@dataclass(frozen=True)
class Variant:
    """One row of a study's table."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of ``jat`` that differ; those of ``jat.model`` are merged."""
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of ``evaluation`` that differ."""
    traits: frozenset[str] = frozenset()
    """The traits of tasks (see ``traits_of``) that the changes have an effect on; empty: any."""


def switch_off(name: str, *traits: str) -> Variant:
    """A fix of the model turned to the published behaviour."""
    return Variant(f"no {name}", {"model": {name: False}}, traits=frozenset(traits))


RELEASED_WEIGHTS = {"mujoco-pendulum": 50.0, "mujoco-doublependulum": 20.0}
"""The loss weights of the released code, which has the paper's two swapped."""


FIXES = (
    Variant(DEFAULT),
    Variant("no normalise", {"normalise": False}, traits=frozenset({"continuous"})),
    Variant("no shuffle", {"shuffle": False}),
    Variant(
        "swapped loss weights", {"loss_weights": RELEASED_WEIGHTS}, traits=frozenset({"mujoco"})
    ),
    Variant(
        "no loss weights",
        {"loss_weights": {"mujoco": 1, "metaworld": 1}},
        traits=frozenset({"mujoco", "metaworld"}),
    ),
    Variant("half the context", evaluation={"context_share": 0.5}, traits=frozenset({"episodes"})),
    switch_off("restrict_actions", "discrete actions"),
    switch_off("weigh_discrete_actions", "discrete actions"),
    switch_off("use_image_rewards", "image"),
    switch_off("amplify_discrete", "discrete"),
    switch_off("refill_window", "episodes"),
    switch_off("train_first_caption_token", "vision"),
    Variant("published sampling", {"sampling": "published", "weights": {}}),
    Variant(
        "all published",
        {
            "normalise": False,
            "shuffle": False,
            "loss_weights": RELEASED_WEIGHTS,
            "model": {"compatibility": "published"},
        },
        {"context_share": 0.5},
    ),
)
"""Each fix off, one at a time. Other differences are in the data, not in the training."""


def kappa_variants(values: Sequence[float]) -> list[Variant]:
    """κ weighs the observation loss, 1 - κ the action loss."""
    for value in values:
        if not 0 <= value <= 1:
            raise UserError(f"--values: κ = {value:g} is not between 0 and 1")
    return [
        Variant(
            f"kappa {value:g}",
            {"model": {"observation_loss_coef": value, "action_loss_coef": 1 - value}},
        )
        for value in values
    ]


def reward_variants() -> list[Variant]:
    """With and without the last reward in the input."""
    hidden = {"model": {"observe_rewards": False}}
    return [Variant("with the reward"), Variant("without the reward", hidden)]


def fix_variants(traits: set[str]) -> list[Variant]:
    """The fixes that have an effect on tasks of these traits."""
    return [fix for fix in FIXES if not fix.traits or fix.traits & traits]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("study", choices=["kappa", "reward", "fixes"])
    parser.add_argument("--tasks", nargs="+", help="instead of the profile's")
    parser.add_argument("--values", nargs="+", type=float, default=list(KAPPAS), help="of κ")
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help="by name: leave out others")
    parser.add_argument("--seeds", type=int, default=1, help="models of each variant")
    parser.add_argument("--steps", type=int, help="optimizer steps, instead of the profile's")
    parser.add_argument("--episodes", type=int, help="episodes a task, instead of the profile's")
    parser.add_argument("--dataset", default=str(DATASET), help="folder or Hub repository")
    parser.add_argument("--output", type=Path, default=STUDIES, help="the studies' folder")


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Run what has not run yet, then write the table and the figure."""
    if arguments.seeds < 1:
        raise UserError("--seeds must be at least 1")
    tasks = arguments.tasks or study_tasks(params, arguments.study)
    if not tasks:
        raise UserError("the profile has no tasks for this study: name some by --tasks")
    traits: set[str] = set().union(*(traits_of(task, params) for task in tasks))
    variants = make_variants(arguments, traits)
    folder: Path = arguments.output / arguments.study
    check_study(folder)
    runs: dict[str, list[Run]] = {variant.name: [] for variant in variants}
    for seed in range(params.seed, params.seed + arguments.seeds):
        for variant in variants:
            log.info("study: %s, seed %d", variant.name, seed)
            changed = change(params, variant, seed, arguments.steps)
            runs[variant.name].append(one_run(changed, variant, tasks, folder, arguments))
    for line in write_study(folder, runs, params.evaluation.bootstrap, params.seed):
        log.info(line)


def study_tasks(params: Params, study: str) -> list[str]:
    """The profile's RL tasks, and its corpora too where each fix is tried."""
    return run.profile_tasks(params) if study == "fixes" else list(params.tasks)


def traits_of(task: str, params: Params) -> set[str]:
    """What a task or a corpus of the profile is like: its domain and its modality in words."""
    for kind in CORPUS_DOMAINS:
        if task in [corpus.name for corpus in getattr(params, kind)]:
            return {kind}
    known = get_task(task)
    modality = known.modality
    return {known.domain, modality.observation, f"{modality.action} actions", "episodes"}


def make_variants(arguments: argparse.Namespace, traits: set[str]) -> list[Variant]:
    """The rows of a study; UserError if ``--only`` names what it does not have."""
    if arguments.study == "kappa":
        variants = kappa_variants(arguments.values)
    else:
        variants = reward_variants() if arguments.study == "reward" else fix_variants(traits)
    names = [variant.name for variant in variants]
    for name in arguments.only or []:
        if name not in names:
            raise UserError(f"--only: '{name}' is none of: {', '.join(names)}")
    return [variant for variant in variants if variant.name in (arguments.only or names)]


def change(params: Params, variant: Variant, seed: int, steps: int | None) -> Params:
    """The parameters of one run; UserError as of a parameter file."""
    values = params.model_dump(mode="json")
    jat = values["jat"]
    model = {**jat["model"], **variant.changes.get("model", {})}
    values["jat"] = {**jat, **variant.changes, "model": model}
    values["evaluation"] |= variant.evaluation
    values["seed"] = seed
    if steps is not None:
        values["jat"]["steps"] = steps
    return validate_params(values, f"study '{variant.name}'")


def one_run(
    params: Params,
    variant: Variant,
    tasks: list[str],
    folder: Path,
    arguments: argparse.Namespace,
) -> Run:
    """Train and evaluate one model, unless that is done."""
    place = folder / f"{variant.name.replace(' ', '-')}-seed{params.seed}"
    run.train(params, arguments.dataset, tasks, place / "jat")
    results = evaluate.play_and_read(
        params,
        Namespace(
            model=str(place / "jat"),
            dataset=arguments.dataset,
            tasks=tasks,
            episodes=arguments.episodes,
            output=place / "evaluation",
        ),
    )
    return Run.read(place / "jat" / run.CURVE, results)


if __name__ == "__main__":
    run_stage(
        main,
        "Train and evaluate variants of JAT, and compare them.",
        add_arguments,
        output=lambda arguments: arguments.output / arguments.study,
    )
