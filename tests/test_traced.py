"""Whatever code really runs while a result is made is among what its digest is made of."""

import dataclasses

import numpy as np
import pytest
from tracing import check

from benchmarks.untrained import make_job
from dataset_builder import build, collect
from dataset_builder.text.build import build_text
from dataset_builder.vision.build import build_vision
from experts import random_scores
from experts.gate import Baseline, judge, play
from experts.load import load_policy
from pipeline import engines
from pipeline.manifest import file_record
from pipeline.settings import TextCorpus, VisionCorpus
from pipeline.stage import write_json
from pipeline.tasks import get_task
from pipeline.types import resolve


@pytest.mark.parametrize(
    "id", ["mujoco-reacher", "mujoco-pusher", "metaworld-reach", "babyai-go-to-obj", "atari-pong"]
)
def test_collection(id, tmp_path):
    task = get_task(id)
    job = make_job(task, None, tmp_path, slots=2, per_slot=1)
    limit = {"max_episode_steps": 30}
    job = dataclasses.replace(job, decides={**job.decides, "env": limit})
    policy = collect.load_policy(job.policy, task, job.policy_folder, 0)
    roots = (collect.collect_shard, resolve(job.policy), type(policy), engines.make_envs)
    engine = engines.engine_of(task, {}).make
    check(lambda: collect.collect_shard(collect.Shard(job, 0, 2)), *roots, engine)


@pytest.mark.parametrize("id", ["mujoco-reacher", "metaworld-box-close", "babyai-go-to-obj"])
def test_baselines_and_the_gate(id, tmp_path):
    task = get_task(id)
    env = {"max_episode_steps": 20}
    engine = (engines.make_envs, engines.engine_of(task, {}).make)
    unit = random_scores.BaselinePlay(id, "random", 2, 0, env, tmp_path / "r.json")
    check(lambda: random_scores.play_baseline(unit), random_scores.play_baseline, *engine)
    if task.modality.missions:
        return
    make_job(task, None, tmp_path, slots=1, per_slot=1)
    policy = load_policy(task, tmp_path / "expert", 0)
    nothing = Baseline(0.0, 1.0, 20)

    def score() -> None:
        outcomes = play(task, load_policy(task, tmp_path / "expert", 0), 2, 0, env)
        judge(task, outcomes, nothing, nothing)

    check(score, play, judge, load_policy, type(policy), *engine)


def test_corpora_and_dataset(tmp_path):
    words = np.array(["the", "of", "and", "house", "tree", "river", "light", "stone", "to", "in"])
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for k in range(12):
        text = " ".join(rng.choice(words, 80)) + f" number{k}"
        (tmp_path / "in" / f"{k}.txt").write_text(text)
    text = TextCorpus(name="notes", source=f"files:{tmp_path / 'in'}", language="en")
    check(lambda: build_text(text, 0, tmp_path / "text", 1), build_text)
    for kind in ("captions", "questions"):
        corpus = VisionCorpus(name=kind, source=f"grids:{kind}", train=4, test=2, image_size=70)
        check(lambda c=corpus: build_vision(c, 0, tmp_path / "vision", 1), build_vision)


def test_a_configuration_of_the_dataset(tmp_path):
    task = get_task("mujoco-reacher")
    job = make_job(task, None, tmp_path / "episodes", slots=2, per_slot=2)
    collect.collect_shard(collect.Shard(job, 0, 2))
    shard = job.folder / "shard-00000.parquet"
    write_json(job.folder / "manifest.json", {"files": [file_record(shard)]})
    files = {"all": [shard]}
    source = build.Configuration(
        task.id, task.domain, task.modality, files, 0.3, {}, tmp_path / "dataset" / task.id
    )
    check(lambda: build.build(source), build.build)
