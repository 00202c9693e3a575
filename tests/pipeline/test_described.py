"""What is described as data is what the packages really have."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import described as real
from pipeline.described import described, model_problems, to_json
from trainer.model.configuration_jat import PRESETS, JatConfig

REMEDY = "run `python -m benchmarks.described`"


def test_the_recipe_is_described_as_sample_factory_has_it() -> None:
    assert to_json(described("recipe")) == to_json(real.recipe()), REMEDY


def test_the_configuration_is_described_as_the_model_has_it() -> None:
    assert to_json(described("jat_config")) == to_json(real.jat_config()), REMEDY


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_in_order(preset: str) -> None:
    fields = described("jat_config").filled({}, preset)
    assert list(model_problems(fields)) == []
    assert all(fields[name] == value for name, value in PRESETS[preset].items())


KINDS = st.lists(st.tuples(st.lists(st.sampled_from(["global", "local", "x"])), st.integers(0, 4)))
SIZES = {
    "hidden_size": st.integers(1, 64),
    "num_heads": st.integers(1, 8),
    "num_layers": st.integers(1, 6),
    "image_size": st.integers(1, 64),
    "patch_size": st.integers(1, 32),
    "attention_types": st.none() | KINDS.map(lambda pairs: [list(pair) for pair in pairs]),
}


@settings(max_examples=200, deadline=None)
@given(preset=st.sampled_from(list(PRESETS)), given=st.fixed_dictionaries({}, optional=SIZES))
def test_the_check_and_the_configuration_agree(preset: str, given: dict[str, Any]) -> None:
    problems = list(model_problems(described("jat_config").filled(given, preset)))
    try:
        JatConfig.preset(preset, **given)
    except ValueError:
        assert problems
    else:
        assert not problems
