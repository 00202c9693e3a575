"""Atari frame by frame: the number of no-ops after which ALE plays as the engine does."""

import importlib
from dataclasses import dataclass, field
from typing import Any

import cv2
import gymnasium
import numpy as np

from benchmarks.parity.record import random_actions
from pipeline.seeds import sequence
from pipeline.types import Task, VectorEnv

NOOPS = 32
"""Shifts tried: 0 … 31 no-ops, each with and without FIRE after them."""
SKIP = 4


@dataclass
class Episode:
    """What an engine showed for the actions it was given."""

    first: np.ndarray
    actions: list[int] = field(default_factory=list)
    frames: list[np.ndarray] = field(default_factory=list)
    """The newest frame after each action; the last is a final one if the game ended."""
    rewards: list[float] = field(default_factory=list)
    over: bool = False
    """The game ended with the last action, not a time limit and not the test."""


@dataclass(frozen=True)
class Match:
    """How far ALE agrees with an engine's episode."""

    steps: int
    """Agent steps with the same frame and reward."""
    of: int
    noops: int = -1
    fire: bool = False
    final: bool | None = None
    """Whether the final frame is Gymnasium's; ``None`` where no game ended."""

    @property
    def whole(self) -> bool:
        """Whether they agree to the end (of the game, up to its final frame)."""
        return self.steps == self.of


def play(task: Task, envs: VectorEnv, steps: int, episodes: int) -> list[list[Episode]]:
    """Consecutive episodes of every slot, or the beginnings of longer ones: [slot][episode]."""
    rng = np.random.default_rng(sequence(0, task.id, "games"))
    rounds = [play_round(envs, rng, steps) for _ in range(episodes)]
    return [list(slot) for slot in zip(*rounds, strict=True)]


def play_round(envs: VectorEnv, rng: np.random.Generator, steps: int) -> list[Episode]:
    """One episode of every slot, or its beginning."""
    column = "image_observations"
    played = [Episode(stack[-1].copy()) for stack in envs.reset()[column]]
    ids = np.arange(envs.num_envs)
    for _ in range(steps):
        actions = random_actions(envs.action_space, rng, len(ids))
        step = envs.step(actions, ids)
        finals = iter(step.final_observations[column])
        for row, slot in enumerate(ids.tolist()):
            stack = next(finals) if step.ended[row] else step.observations[column][row]
            played[slot].actions.append(int(actions[row]))
            played[slot].frames.append(stack[-1].copy())
            played[slot].rewards.append(float(step.rewards[row]))
            played[slot].over = bool(step.terminated[row])
        ids = ids[~step.ended]
        if not len(ids):
            break
    return played


def match_slot(task: Task, seed: int, episodes: list[Episode]) -> list[Match]:
    """The best shift of each of a slot's consecutive episodes.

    What was played before decides how some games start (ALE's reset keeps part of the machine's
    state): each episode is sought after those before it, and if that fails in a fresh machine.
    """
    matches: list[Match] = []
    for number, episode in enumerate(episodes):
        before = list(zip(episodes[:number], matches, strict=True))
        match = find_match(task, seed, before, episode)
        if before and not match.whole:
            match = max(match, find_match(task, seed, [], episode), key=lambda one: one.steps)
        matches.append(match)
    return matches


def find_match(
    task: Task, seed: int, before: list[tuple[Episode, Match]], episode: Episode
) -> Match:
    """The shift that agrees longest; the search stops at one that agrees to the end."""
    ale = load_game(task, seed)
    actions = ale.getMinimalActionSet()
    fire = next((action for action in actions if action.value == 1), None)
    for earlier, match in before:
        ale.reset_game()
        begin(ale, match.noops, fire if match.fire else None)
        follow(ale, actions, earlier, match.noops, match.fire)
    ale.reset_game()
    best, screen = Match(-1, len(episode.frames)), np.empty(ale.getScreenDims(), np.uint8)
    for noops in range(NOOPS):
        begin(ale, min(noops, 1), None)
        start = ale.cloneState()
        for press in (True, False) if fire is not None else (False,):
            ale.restoreState(start)
            begin(ale, 0, fire if press else None)
            ale.getScreenGrayscale(screen)
            if np.array_equal(shrink(screen), episode.first):
                found = follow(ale, actions, episode, noops, press)
                best = max(best, found, key=lambda match: match.steps)
                if best.whole:
                    return best
        ale.restoreState(start)
    return best


def begin(ale: Any, noops: int, fire: Any) -> None:
    """Wait, then press FIRE if there is one."""
    for _ in range(noops):
        ale.act(0)
    if fire is not None:
        ale.act(fire)


def load_game(task: Task, seed: int) -> Any:
    """ALE with the game in it."""
    import ale_py

    gymnasium.register_envs(ale_py)
    roms: Any = importlib.import_module("ale_py.roms")
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setInt("random_seed", seed)
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(roms.get_rom_path(gymnasium.spec(task.gymnasium_id).kwargs["game"]))
    return ale


def follow(ale: Any, actions: list[Any], episode: Episode, noops: int, fire: bool) -> Match:
    """Play the episode's actions in ALE, as Gymnasium's preprocessing shows them."""
    screens = np.zeros((2, *ale.getScreenDims()), np.uint8)  # newest and the one before
    for step, action in enumerate(episode.actions):
        reward, ended = 0.0, False
        for frame in range(SKIP):
            reward += ale.act(actions[action])
            ended = ale.game_over()
            if ended:
                break
            if frame >= SKIP - 2:
                ale.getScreenGrayscale(screens[SKIP - 1 - frame])
        screens[0] = screens.max(axis=0)
        same = np.array_equal(shrink(screens[0]), episode.frames[step])
        last = step == len(episode.frames) - 1
        if ended:
            agree = last and episode.over and reward == episode.rewards[step]
            return Match(step + agree, len(episode.frames), noops, fire, same)
        if not same or reward != episode.rewards[step] or (last and episode.over):
            return Match(step, len(episode.frames), noops, fire)
    return Match(len(episode.frames), len(episode.frames), noops, fire)


def shrink(screen: np.ndarray) -> np.ndarray:
    """84×84, each pixel the mean of the area that it covers."""
    return cv2.resize(screen, (84, 84), interpolation=cv2.INTER_AREA)
