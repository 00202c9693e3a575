"""The order of training: complete, within budget, and known from the seed and the weights alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from pipeline.errors import UserError
from trainer.feed.sampling import BatchPlan, count_batches, pack, task_weights
from trainer.feed.tokenizer import END, train_tokenizer


class Fake:
    """A source that only has lengths; its rows tell which windows were asked for."""

    def __init__(self, task: str, domain: str, lengths: list[int]) -> None:
        self.task, self.domain, self.group = task, domain, domain
        self.lengths = np.array(lengths)

    def rows(self, windows: np.ndarray) -> dict:
        return {"input_ids": [np.full(self.lengths[window], window) for window in windows]}


SOURCES = [
    Fake("a", "mujoco", [10] * 37),
    Fake("b", "text", [8, 8, 8, 3] * 20),
    Fake("c", "mujoco", [4, 6] * 30),
]
BUDGETS = {"mujoco": 40, "text": 32}


def make_plan(count: int = 200, seed: int = 0, weights: dict | None = None, block: int = 64):
    return BatchPlan(SOURCES, weights or {"a": 1, "b": 1, "c": 1}, BUDGETS, count, seed, block)


lengths_and_budget = (
    st.lists(st.integers(1, 50), min_size=1, max_size=200).map(np.array),
    st.integers(1, 300),
)


@given(*lengths_and_budget)
def test_every_row_is_packed_once_within_the_budget(lengths, budget):
    batches = pack(lengths, budget)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert len(batches) == count_batches(lengths, budget)
    for batch in batches:
        assert len(batch) * lengths[batch].max() <= max(budget, lengths[batch].max())


@given(*lengths_and_budget)
def test_one_more_row_never_makes_fewer_batches(lengths, budget):
    counts = [count_batches(lengths[:rows], budget) for rows in range(len(lengths) + 1)]
    assert counts == sorted(counts)


def test_rows_of_similar_length_share_a_batch():
    rng = np.random.default_rng(0)
    sources = [Fake(k, "babyai", rng.integers(2, 100, 300).tolist()) for k in "abc"]
    plan = BatchPlan(sources, dict.fromkeys("abc", 1), {"babyai": 1000}, 600, 0)
    valid, padded = plan.count_tokens()
    assert valid / padded > 0.95
    assert padded > 0.95 * 600 * 1000


def test_windows_come_in_order_unless_they_are_shuffled():
    plans = [
        BatchPlan([SOURCES[0]], {"a": 1}, {"mujoco": 40}, 60, 0, block=1, shuffle=shuffle)
        for shuffle in (False, True)
    ]
    ordered, shuffled = (np.concatenate([plan.rows(k)[1] for k in range(60)]) for plan in plans)
    assert ordered[:80].tolist() == [*range(37), *range(37), *range(6)]
    assert shuffled[:37].tolist() != ordered[:37].tolist()
    assert sorted(shuffled[:37]) == sorted(ordered[:37])


def test_a_place_does_not_depend_on_the_places_made_before():
    whole, late = make_plan(), make_plan()
    expected = [whole[index] for index in range(200)]
    for index in (199, 3, 120, 64, 63):
        for name, value in late[index].items():
            assert torch.equal(value, expected[index][name])
    other = make_plan(seed=1)
    assert any(not np.array_equal(other.rows(k)[1], whole.rows(k)[1]) for k in range(20))


def test_a_micro_batch_has_one_domain_and_several_of_its_tasks():
    plan = make_plan()
    domains = [{SOURCES[k].domain for k in np.unique(plan.rows(n)[0])} for n in range(200)]
    assert all(len(found) == 1 for found in domains)
    mixed = [len(np.unique(plan.rows(n)[0])) for n in range(200)]
    assert max(mixed) == 2


def test_rows_know_their_task():
    plan = make_plan()
    for index in range(50):
        batch = plan[index]
        tasks, windows = plan.rows(index)
        made = [
            (int(t), int(row[0])) for t, row in zip(batch["tasks"], batch["input_ids"], strict=True)
        ]
        assert sorted(made) == sorted(zip(tasks.tolist(), windows.tolist(), strict=True))
        lengths = [SOURCES[task].lengths[window] for task, window in made]
        assert batch["attention_mask"].sum(dim=1).tolist() == lengths


def test_rows_know_their_task_where_all_are_of_one_length():
    """They are drawn in any order, and come task by task."""
    windows = {"a": range(30), "b": range(100, 130)}

    class Named(Fake):
        def rows(self, rows: np.ndarray) -> dict:
            return {"input_ids": [np.full(5, windows[self.task][row]) for row in rows]}

    sources = [Named(task, "mujoco", [5] * 30) for task in windows]
    plan = BatchPlan(sources, {"a": 1, "b": 1}, {"mujoco": 40}, 20, 0)
    drawn = [plan.rows(index)[0] for index in range(20)]
    assert any((np.diff(tasks) < 0).any() for tasks in drawn), "some are not in order"
    for index in range(20):
        batch = plan[index]
        assert batch["tasks"].tolist() == (batch["input_ids"][:, 0] >= 100).long().tolist()


def test_an_epoch_of_a_task_has_all_its_windows_in_an_order_of_its_own():
    plan = make_plan(count=400)
    drawn = [plan.rows(k) for k in range(400)]
    windows = np.concatenate([windows[tasks == 0] for tasks, windows in drawn])
    counts = np.bincount(windows, minlength=37)
    assert counts.max() - counts.min() <= 1
    orders = [plan._order(0, epoch).tolist() for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(37))
    assert orders[0] != orders[1]


def test_tokens_are_counted_as_the_batches_have_them():
    plan = make_plan()
    masks = [plan[k]["attention_mask"] for k in range(200)]
    expected = sum(int(mask.sum()) for mask in masks), sum(mask.numel() for mask in masks)
    assert make_plan().count_tokens() == expected
    first = sum(int(mask.sum()) for mask in masks[:64])
    assert make_plan().count_tokens(blocks=1)[0] == first


def test_tokens_of_tasks_are_as_their_weights():
    plan = make_plan(count=6000, weights={"a": 3, "b": 4, "c": 1}, block=1000)
    tokens = np.zeros(3)
    for index in range(6000):
        tasks, windows = plan.rows(index)
        for task in np.unique(tasks):
            tokens[task] += SOURCES[task].lengths[windows[tasks == task]].sum()
    assert tokens[0] / tokens[2] == pytest.approx(3, rel=0.05)
    # Micro-batches of the two domains are as many; the budgets differ.
    assert (tokens[0] + tokens[2]) / tokens[1] == pytest.approx(40 / 32, rel=0.06)


def test_a_block_has_the_weights_that_are_set_for_it():
    plan = make_plan(block=50)
    plan.weights[2:] = float("nan")
    assert len({int(plan.rows(k)[0][0]) for k in range(100)}) > 1
    with pytest.raises(RuntimeError, match="block 2"):
        plan.rows(100)
    plan.weights[2] = torch.tensor([0.0, 1.0, 0.0])
    assert all(set(plan.rows(k)[0]) == {1} for k in range(100, 150))


def test_processes_of_the_loader_see_weights_that_are_set_while_they_run():
    weights = torch.tensor([0.2, 1.0, 3.0])
    expected = make_plan(block=20)
    expected.weights[2:] = weights
    plan = make_plan(count=60, block=20)
    plan.weights[2:] = float("nan")
    loader = DataLoader(plan, batch_size=None, num_workers=2, prefetch_factor=2)
    for index, batch in enumerate(loader):
        if index == 19:
            plan.weights[2] = weights
        for name, value in expected[index].items():
            assert torch.equal(batch[name], value)
    assert index == 59


def test_weights_by_scheme_and_by_name():
    two = SOURCES[:2]
    assert task_weights(two, "uniform", 1, {}) == {"a": 1, "b": 1}
    named = [Fake("ok-vqa", "vision", [1]), Fake("oscar", "text", [1])]
    assert task_weights(named, "published", 1, {}) == {"ok-vqa": 1, "oscar": 10}
    by_size = task_weights(two, "temperature", 2, {})
    assert by_size["a"] / by_size["b"] == pytest.approx((370 / 540) ** 0.5)
    assert task_weights(two, "uniform", 1, {"text": 4, "b": 2}) == {"a": 1, "b": 2}
    with pytest.raises(UserError, match=r"jat\.weights"):
        task_weights(two, "uniform", 1, {"mujoco": 0, "text": 0})


def test_a_trained_tokenizer_is_the_same_each_time_and_loses_nothing():
    texts = ["go to the red ball", "größer → kleiner\n\tx = [1, 2]"] * 50
    first, second = train_tokenizer(texts, 400), train_tokenizer(texts, 400)
    assert first.get_vocab() == second.get_vocab()
    for text in [*texts[:2], "unseen: 你好"]:
        assert first.decode(first(text)["input_ids"]) == text
    assert first.convert_tokens_to_ids(END) == first.eos_token_id == first.pad_token_id


def test_blocks_draw_on_their_own():
    """Which domain each place has is drawn anew in every block."""
    plan = make_plan(count=300, block=50)
    domains = [SOURCES[int(plan.rows(k)[0][0])].domain for k in range(300)]
    blocks = [tuple(domains[start : start + 50]) for start in range(0, 300, 50)]
    assert len(set(blocks)) == len(blocks)
