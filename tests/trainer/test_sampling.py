"""The order of training: complete, within budget, and known from the seed alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from trainer.sampling import Plan, pack, task_weights
from trainer.tokenizer import END, train_tokenizer


class Fake:
    """A source that only has lengths."""

    def __init__(self, task: str, domain: str, lengths: list[int]) -> None:
        self.task, self.domain, self.lengths = task, domain, np.array(lengths)

    def batch(self, windows: np.ndarray) -> dict:
        return {"windows": windows}


SOURCES = [Fake("a", "mujoco", [10] * 37), Fake("b", "text", [8, 8, 8, 3] * 20)]
BUDGETS = {"mujoco": 40, "text": 32}


def make_plan(count: int = 200, seed: int = 0, weights: dict | None = None) -> Plan:
    return Plan(SOURCES, weights or {"a": 1, "b": 1}, BUDGETS, count, seed)


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=200), st.integers(1, 300), st.integers(0, 9)
)
def test_every_window_is_packed_once_within_the_budget(lengths, budget, seed):
    lengths = np.array(lengths)
    batches = pack(lengths, budget, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) * lengths[batch].max() <= max(budget, lengths[batch].max())


def test_windows_of_similar_length_share_a_batch():
    lengths = np.random.default_rng(0).integers(1, 100, 5000)
    batches = pack(lengths, 1000, np.random.default_rng(0))
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert lengths.sum() / padded > 0.9


def test_a_place_does_not_depend_on_the_places_made_before():
    whole, late = make_plan(), make_plan()
    for index in (199, 3, 120):
        np.testing.assert_array_equal(late[index]["windows"], whole[index]["windows"])
        assert late[index]["task"] == whole[index]["task"]
    assert any(make_plan(seed=1)[k]["task"] != whole[k]["task"] for k in range(20))


def test_an_epoch_of_a_task_has_all_its_windows_in_an_order_of_its_own():
    plan = make_plan()
    seen = [plan.windows(k).tolist() for k in range(200) if plan.tasks[k] == 0]
    first, second = np.concatenate(seen[:10]), np.concatenate(seen[10:20])
    assert sorted(first) == sorted(second) == list(range(37))
    assert first.tolist() != second.tolist()


def test_tokens_are_counted_as_the_batches_have_them():
    plan = make_plan(count=50)
    valid = sum(SOURCES[plan.tasks[k]].lengths[plan.windows(k)].sum() for k in range(50))
    assert plan.count_tokens()[0] == valid
    assert plan.count_tokens()[1] >= valid


def test_tasks_are_drawn_by_their_weights():
    drawn = make_plan(count=4000, weights={"a": 3, "b": 1}).tasks
    assert np.mean(drawn == 0) == pytest.approx(0.75, abs=0.03)


def test_weights_by_scheme_and_by_name():
    assert task_weights(SOURCES, "uniform", 1, {}) == {"a": 1, "b": 1}
    named = [Fake("ok-vqa", "vision", [1]), Fake("oscar", "text", [1])]
    assert task_weights(named, "published", 1, {}) == {"ok-vqa": 1, "oscar": 10}
    by_size = task_weights(SOURCES, "temperature", 2, {})
    assert by_size["a"] / by_size["b"] == pytest.approx((370 / 540) ** 0.5)
    assert task_weights(SOURCES, "uniform", 1, {"text": 4, "b": 2}) == {"a": 1, "b": 2}
    with pytest.raises(UserError, match=r"jat\.weights"):
        task_weights(SOURCES, "uniform", 1, {"mujoco": 0, "text": 0})


def test_a_trained_tokenizer_is_the_same_each_time_and_loses_nothing():
    texts = ["go to the red ball", "größer → kleiner\n\tx = [1, 2]"] * 50
    first, second = train_tokenizer(texts, 400), train_tokenizer(texts, 400)
    assert first.get_vocab() == second.get_vocab()
    for text in [*texts[:2], "unseen: 你好"]:
        assert first.decode(first(text)["input_ids"]) == text
    assert first.convert_tokens_to_ids(END) == first.eos_token_id == first.pad_token_id
