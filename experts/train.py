"""Stage: an expert for every task of one domain, each scored by the gate.

Whatever its source, an expert is a folder: ``config.json`` (what it is), ``score.json`` (how good
it is) and, when it was trained, ``model.safetensors`` and ``curve.csv``.
"""

import shutil
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experts import sources
from experts.appo import network
from experts.appo.checkpoints import summaries_of
from experts.appo.curve import read_curve
from experts.gate import VERDICTS, judge, play
from experts.load import load_policy
from experts.random_scores import BaselinePlay, baseline, noop_play, random_play
from pipeline import closure, engines
from pipeline.domains import ENVIRONMENTS, PUBLISHED_DOMAINS, get_domain
from pipeline.fanout import fan_out
from pipeline.files import ExpertConfig, Fingerprint, GateScore, read_model
from pipeline.manifest import difference, fingerprint, package_versions, same_but_code
from pipeline.params import Params
from pipeline.paths import ARTIFACTS, EXPERTS, METRICS, expert_folder
from pipeline.seeds import sequence
from pipeline.shards import sha256
from pipeline.stage import (
    add_accept_code,
    log,
    replaced_folder,
    run_stage,
    write_atomic,
    write_json,
)
from pipeline.tasks import get_task

TRAINING = ARTIFACTS / "training"
"""Checkpoints of unfinished experts; a finished one leaves nothing here."""
FORMAT = 1
"""The version of an expert's folder; raising it makes every expert anew."""


@dataclass(frozen=True)
class ExpertJob:
    """One task's expert."""

    task: str
    source: str
    steps: int
    envs: int
    recipe: dict[str, Any]
    options: dict[str, Any]
    """The profile's options of the environments."""
    seed: int
    mode: str | None
    """sample | argmax, or as the expert's description says."""
    episodes: int
    """Episodes of the gate."""
    random: BaselinePlay
    noop: BaselinePlay
    folder: Path
    """The folder that the expert goes to."""
    training: Path
    """The folder that keeps its training meanwhile."""
    threads: int = 1
    """Threads of the environments and the learner; they decide how fast it goes."""
    accept_code: bool = False
    """Whether an expert that other code made is taken as it is."""

    @property
    def env(self) -> dict[str, Any]:
        """What the profile decides of the environments."""
        return engines.decided_options(get_task(self.task), self.options)

    @property
    def definition(self) -> dict[str, Any]:
        """What else decides the environments."""
        return engines.definition(get_task(self.task), self.options)

    @property
    def decides(self) -> dict[str, Any]:
        """Everything that decides the weights."""
        decides = self._settings
        if self.source == "train":
            decides["definition"] = self.definition
            decides["code"] = closure.digests("experts.train:train_expert")
        if self.source == "shipped":
            decides["content"] = sources.shipped_checksum(get_task(self.task))
        return decides

    @property
    def _settings(self) -> dict[str, Any]:
        decides: dict[str, Any] = {"format": FORMAT, "task": self.task, "source": self.source}
        if self.source.startswith("file:"):
            decides["source"] = sources.file_checksum(get_task(self.task), self.source)
        if self.source == "train":
            keys = ("steps", "envs", "recipe", "env", "seed")
            decides |= {key: getattr(self, key) for key in keys}
        return decides

    @property
    def fingerprint(self) -> str:
        """Another one makes the expert anew."""
        return fingerprint(self.decides)

    @property
    def earlier(self) -> str:
        """The fingerprint of an expert that was made before code was part of it: it is taken over
        as it is.
        """
        return fingerprint(self._settings)

    @property
    def state(self) -> Path:
        """The folder of this very run, so that other settings never resume it."""
        return self.training / self.fingerprint[:16]


def expert_jobs(params: Params, name: str) -> list[ExpertJob]:
    """The experts of one domain."""
    domain, settings = get_domain(name), params.domain(name)
    expert, jobs = settings.expert, []
    for id in settings.tasks:
        task = get_task(id)
        recipe = domain.recipe(task) if domain.recipe else {}
        jobs.append(
            ExpertJob(
                id,
                sources.absolute(expert.source_of(id)),
                expert.steps_of(id),
                expert.envs_of(id),
                {**recipe, **expert.recipe_of(id)},
                settings.env_of(id),
                params.seed,
                expert.mode_of(id)
                or (domain.expert_mode if expert.source_of(id) == "train" else None),
                expert.gate_episodes,
                random_play(params, id),
                noop_play(params, id),
                expert_folder(task).resolve(),
                (TRAINING / id).resolve(),
                max(1, int(expert.cpus)),
            )
        )
    return jobs


def make_expert(job: ExpertJob) -> dict[str, Any]:
    """Make and score one expert, unless it is there as it would be made now; its score."""
    path = job.folder / "config.json"
    known = read_model(path, Fingerprint) if path.exists() else {}
    if known and is_made(job, known):
        known = read_model(path, ExpertConfig)
        told = {"fingerprint": job.fingerprint, "decides": job.decides}
        mode = job.mode or known.get("mode")
        told |= {"mode": mode} if "mode" in known else {}
        if any(known.get(key) != value for key, value in told.items()):
            write_json(path, {**known, **told})
        shutil.rmtree(job.training, ignore_errors=True)
        return score(job, job.folder)
    if known:
        reason = difference(known.get("decides"), job.decides)
        log.info("%s: made anew, as this changed: %s", job.task, reason)
    with replaced_folder(job.folder) as folder:
        make = MAKE.get(job.source.partition(":")[0], scripted)
        config = make(job, folder)
        config |= {
            "source": job.source, "fingerprint": job.fingerprint, "decides": job.decides
        }  # fmt: skip
        if job.mode and "mode" in config:
            config["mode"] = job.mode
        write_json(folder / "config.json", config)
        result = score(job, folder)
    shutil.rmtree(job.training, ignore_errors=True)
    return result


def is_made(job: ExpertJob, config: dict[str, Any]) -> bool:
    """Whether the expert of this description is as it would be made now."""
    accepted = job.accept_code and same_but_code(config.get("decides"), job.decides)
    return accepted or config.get("fingerprint") in (job.fingerprint, job.earlier)


def score(job: ExpertJob, folder: Path) -> dict[str, Any]:
    """The gate's score of the expert in ``folder``, played again only if something changed."""
    path, task = folder / "score.json", get_task(job.task)
    (policy_seed,) = sequence(job.seed, "gate", task.id).generate_state(1)
    policy = load_policy(task, folder, int(policy_seed))
    decides = {
        "policy": [policy.name, policy.checksum],
        "episodes": job.episodes,
        "seed": job.seed,
        "env": job.env,
        "definition": job.definition,
        "random": job.random.settings,
        "noop": job.noop.settings,
        "references": [task.expert_mean, task.human_mean, task.max_score],
        "code": closure.digests(play, judge, load_policy, type(policy)),
    }
    known = read_model(path, Fingerprint) if path.exists() else {}
    if known.get("fingerprint") == fingerprint(decides):
        return read_model(path, GateScore)
    if known:
        reason = difference(known.get("decides"), decides)
        log.info("%s: scored anew, as this changed: %s", job.task, reason)
    outcomes = play(task, policy, job.episodes, job.seed, job.env)
    verdict = judge(task, outcomes, baseline(job.random), baseline(job.noop), job.seed)
    result = {**verdict.to_dict(), "fingerprint": fingerprint(decides), "decides": decides}
    write_json(path, result)
    return result


def train_expert(job: ExpertJob, folder: Path) -> dict[str, Any]:
    """Train with APPO, then write the weights and the curve; the description."""
    from experts.appo.recipe import Training
    from experts.appo.sample_factory import train
    from experts.appo.selection import select

    task = get_task(job.task)
    (seed,) = sequence(job.seed, "appo", task.id).generate_state(1)
    training = Training(
        task.id, job.steps, job.envs, job.recipe, job.env, int(seed >> 1), job.state,
        job.threads,
    )  # fmt: skip
    last = train(training)
    policy, chosen = select(training, last, job.mode or "sample", job.episodes, job.seed)
    write_atomic(folder / "model.safetensors", network.save(policy))
    shutil.copy(job.state / "curve.csv", folder / "curve.csv")
    shutil.copytree(summaries_of(job.state), folder / "tensorboard")
    return {
        "format": FORMAT,
        "kind": "network",
        "task": task.id,
        "network": policy.architecture.to_dict(),
        "mode": job.mode,
        "weights_sha256": sha256(folder / "model.safetensors"),
        **chosen,
        "envs": job.envs,
        "recipe": job.recipe,
        "env": job.env,
        "seed": job.seed,
        "versions": {**package_versions(), "sample-factory": version("sample-factory")},
    }


def scripted(job: ExpertJob, folder: Path) -> dict[str, Any]:
    """The description of a policy that nobody had to train."""
    return sources.scripted(get_task(job.task), job.source)


MAKE = {
    "train": train_expert,
    "hub": lambda job, folder: sources.hub(get_task(job.task), job.source, folder, job.env),
    "file": lambda job, folder: sources.file(get_task(job.task), job.source, folder, job.env),
    "shipped": lambda job, folder: sources.shipped(get_task(job.task), folder),
}
"""Source -> what fills the folder and describes it."""


@contextmanager
def followed(jobs: list[ExpertJob], every: float = 15) -> Iterator[None]:
    """Log how far the running trainings are; their curves say it wherever they run."""
    over, seen = threading.Event(), {}

    def look() -> None:
        while not over.wait(every):
            for job in jobs:
                rows = []
                with suppress(FileNotFoundError):  # not begun, or over
                    rows = read_curve(job.state / "curve.csv")
                if rows and seen.get(job.task) != rows[-1]:
                    seen[job.task] = rows[-1]
                    steps, seconds, mean = rows[-1]
                    log.info(
                        "%s: %d of %d steps, %.0f s, mean return %.4g",
                        job.task, steps, job.steps, seconds, mean,
                    )  # fmt: skip

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def write_metrics(name: str, jobs: list[ExpertJob], scores: list[dict[str, Any]]) -> None:
    """``metrics/experts_<domain>.json`` and ``metrics/curves_<domain>/<task>.csv``, for DVC."""
    known = [s["normalised"] for s in scores if s["normalised"] is not None]
    counts = {v: sum(s["verdict"] == v for s in scores) for v in VERDICTS}
    normalised = round(sum(known) / len(known), 4) if known else None
    write_json(METRICS / f"experts_{name}.json", {**counts, "normalised": normalised})
    with replaced_folder(METRICS / f"curves_{name}") as folder:
        for job in jobs:
            curve = job.folder / "curve.csv"
            if curve.exists():
                shutil.copy(curve, folder / f"{job.task}.csv")


def main(params: Params, arguments: Namespace) -> None:
    """Make one stage's experts, none where the profile has no tasks of it."""
    (EXPERTS / arguments.domain).mkdir(parents=True, exist_ok=True)
    jobs, scores = [], []
    for name in params.domains_of(arguments.domain):
        of_domain = [
            replace(job, accept_code=arguments.accept_code) for job in expert_jobs(params, name)
        ]
        expert = params.domain(name).expert
        with followed([job for job in of_domain if job.source == "train"]):
            scores += fan_out(
                make_expert,
                of_domain,
                workers=params.workers,
                desc=f"{name} experts",
                cpus=expert.cpus,
                gpus=expert.gpus,
                name=lambda job: job.task,
            )
        jobs += of_domain
    write_metrics(arguments.domain, jobs, scores)
    for s in scores:
        log.info(
            "%-32s %-7s %9.2f ± %.2f over %d episodes (random %.2f, reference %s)",
            s["task"], s["verdict"], s["mean"], s["std"], s["episodes"], s["random_mean"],
            s["reference_mean"],
        )  # fmt: skip


def add_arguments(parser: ArgumentParser) -> None:
    """The domain."""
    parser.add_argument(
        "--domain",
        required=True,
        choices=(*PUBLISHED_DOMAINS, ENVIRONMENTS),
        help=f"whose experts to make; '{ENVIRONMENTS}': those of what the profile brings",
    )
    add_accept_code(parser)


if __name__ == "__main__":
    run_stage(
        main,
        "Make and score the experts of one domain.",
        add_arguments,
        output=lambda arguments: EXPERTS / arguments.domain,
    )
