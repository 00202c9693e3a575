"""Every stage, broken off at some places; ``python -m benchmarks.faults`` tries all of them."""

import pytest

from benchmarks.faults import checks
from benchmarks.faults.project import STAGES, Chain, Stage

KILLS = [
    pytest.param(stage, number, after, id=f"{stage.name}-{number}-{'after' if after else 'before'}")
    for stage in STAGES
    for number, after in zip(stage.kills, (True, False, True), strict=False)
]
EACH = pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)


@pytest.mark.parametrize(("stage", "number", "after"), KILLS)
def test_a_killed_stage_ends_as_if_it_had_been_left_alone(
    chain: Chain, stage: Stage, number: int, after: bool
) -> None:
    assert checks.killed(chain, stage, number, after) == []


@EACH
def test_a_file_that_cannot_be_written_to_its_end_is_one_line(chain: Chain, stage: Stage) -> None:
    assert checks.limited(chain, stage, share=0.7) == []


@EACH
def test_a_full_disk_is_one_line_and_the_next_run_goes_on(chain: Chain, stage: Stage) -> None:
    if not chain.small:
        pytest.skip("no file system of its own can be mounted here")
    assert checks.full(chain, stage, share=0.6) == []


@EACH
def test_two_runs_at_once_are_as_one(chain: Chain, stage: Stage) -> None:
    assert checks.twice(chain, stage) == []
