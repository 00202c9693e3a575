"""The stages of dvc.yaml agree with the profiles and with the code."""

from argparse import Namespace
from pathlib import Path

import pytest
import yaml

from dataset_builder import collect
from experts import train
from pipeline.params import validate_params

PROJECT = Path(__file__).resolve().parents[1]
STAGES = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("profile", ["params.yaml", "params/paper.yaml", "params/agent.yaml"])
def test_every_parameter_of_a_stage_is_in_every_profile(profile):
    params = yaml.safe_load((PROJECT / profile).read_text())
    for name, stage in STAGES.items():
        for key in stage.get("params", []):
            value = params
            for part in key.split("."):
                assert part in value, f"{name} reads '{key}', which '{profile}' does not have"
                value = value[part]


def test_every_dependency_is_a_file_of_the_project_or_an_output_of_a_stage():
    outputs = {
        out if isinstance(out, str) else next(iter(out))
        for stage in STAGES.values()
        for out in stage.get("outs", [])
    }
    for name, stage in STAGES.items():
        for path in stage.get("deps", []):
            assert path in outputs or (PROJECT / path).exists(), f"{name} depends on '{path}'"


@pytest.mark.parametrize("stage", [train, collect])
def test_a_domain_without_tasks_is_no_work(stage, tmp_path, monkeypatch):
    arguments = Namespace(domain="atari", accept_code=False)
    monkeypatch.chdir(tmp_path)
    values = yaml.safe_load((PROJECT / "params.yaml").read_text())
    values["atari"]["tasks"] = []
    stage.main(validate_params(values, "params.yaml"), arguments)
    assert all(not any(folder.iterdir()) for folder in Path("artifacts").glob("*/atari"))
    assert list(Path("metrics").glob("*_atari.json"))
