"""The collect stage with a random policy in place of the experts, as a program."""

import dataclasses
import importlib
import os

from stages import leave_scores

from dataset_builder import collect
from pipeline.domains import PUBLISHED_DOMAINS
from pipeline.stage import run_stage

if __name__ == "__main__":
    for name in PUBLISHED_DOMAINS:
        module = importlib.import_module(f"pipeline.domains.{name}")
        policy = f"random_policy:{os.environ.get('POLICY', 'load')}"
        module.DOMAIN = dataclasses.replace(module.DOMAIN, policy=policy)
        leave_scores(name)
    run_stage(collect.main, "Collect with a random policy.", collect.add_arguments)
