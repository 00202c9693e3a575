import numpy as np
import pytest
from episodes import CountingEnvs

from pipeline.rollout import PAGE, Dropped, play_scores, rollout
from pipeline.types import Episode, Observations


class Script:
    """Action 0, except 9 at the given (slot, episode, time); gives up the given episodes."""

    name, checksum = "script", "0" * 64

    def __init__(self, ends: set = frozenset(), gives_up: set = frozenset()) -> None:
        self.abandoned: dict[int, str] = {}
        self.ends, self.gives_up = ends, gives_up
        self.calls: list[tuple] = []

    def bind(self, envs: CountingEnvs) -> None:
        pass

    def act(
        self, observations: Observations, ids: np.ndarray, started: np.ndarray, rewards: np.ndarray
    ) -> np.ndarray:
        states = observations["continuous_observations"].astype(int)
        assert states[:, 0].tolist() == ids.tolist()
        assert (states[:, 2] == 0).tolist() == started.tolist()
        assert np.where(started, 0, states[:, 2] - 1).tolist() == rewards.tolist()
        self.abandoned = {s: "why not" for s, e, _ in states.tolist() if (s, e) in self.gives_up}
        return np.array([9 if tuple(state) in self.ends else 0 for state in states.tolist()])


def play(policy: Script, slots: int = 3, quota: int = 2, **more) -> list[Episode]:
    seeds = [100 + slot for slot in range(slots)]
    return list(rollout("t", CountingEnvs(slots), policy, seeds, quota, **more))


def test_every_slot_plays_its_quota_however_long_its_episodes_are() -> None:
    episodes = play(Script(), slots=4, quota=3)
    assert sorted((e.seed, e.reset_index) for e in episodes) == [
        (100 + slot, index) for slot in range(4) for index in range(3)
    ]


def test_an_episode_has_its_own_rows_and_its_final_observation() -> None:
    for episode in play(Script()):
        slot, steps = episode.seed - 100, len(episode)
        assert steps == slot + 2
        expected = [[slot, episode.reset_index, time] for time in range(steps + 1)]
        assert episode.observations["continuous_observations"].tolist() == expected
        assert episode.rewards.tolist() == list(range(steps))
        assert episode.info["success"].tolist() == [time == 1 for time in range(steps)]
        assert (episode.terminated, episode.truncated) == (False, True)


def test_termination_and_order_are_those_of_the_environments() -> None:
    episodes = play(Script(ends={(2, 0, 0)}))
    assert [(e.seed, e.reset_index, len(e)) for e in episodes[:2]] == [(102, 0, 1), (100, 0, 2)]
    assert episodes[0].terminated
    assert not episodes[0].truncated


def test_an_abandoned_episode_is_counted_and_uses_up_its_place() -> None:
    dropped = Dropped()
    episodes = play(Script(gives_up={(1, 0)}), dropped=dropped)
    assert dropped.reasons == {"why not": 1}
    assert sorted((e.seed, e.reset_index) for e in episodes) == [
        (100, 0), (100, 1), (101, 1), (102, 0), (102, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("length", [PAGE - 1, PAGE, PAGE + 1, 2 * PAGE + 3])
def test_long_episodes_keep_every_step(length: int) -> None:
    envs = CountingEnvs(2, {0: length, 1: 3})
    first, *_ = (e for e in rollout("t", envs, Script(), [0, 1], 2) if e.seed == 0)
    times = first.observations["continuous_observations"][:, 2]
    assert times.tolist() == list(range(length + 1))


def test_slots_that_stand_on_different_pages_keep_their_own_steps() -> None:
    """The second episode of one slot begins before the first of the other reaches a new page."""
    lengths = {0: PAGE + 40, 1: PAGE - 30, 2: 2 * PAGE + 5}
    episodes = list(rollout("t", CountingEnvs(3, lengths), Script(), [0, 1, 2], 2))
    assert len(episodes) == 6
    for episode in episodes:
        rows = episode.observations["continuous_observations"]
        steps = lengths[episode.seed]
        expected = [[episode.seed, episode.reset_index, time] for time in range(steps + 1)]
        assert rows.tolist() == expected
        assert episode.rewards.tolist() == list(range(steps))


def test_only_what_is_kept_is_stored() -> None:
    def keep(observations: Observations) -> Observations:
        return {"time": observations["continuous_observations"][:, 2:]}

    for episode in play(Script(), keep=keep):
        assert list(episode.observations) == ["time"]
        assert len(episode.observations["time"]) == len(episode) + 1


def test_scores_are_those_of_the_episodes() -> None:
    episodes = sorted(play(Script()), key=lambda e: (e.seed, e.reset_index))
    outcomes = play_scores(CountingEnvs(3), Script(), 2)
    assert [(o.score, o.steps, o.success) for o in outcomes] == [
        (e.score, len(e), e.success) for e in episodes
    ]
