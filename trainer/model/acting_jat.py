"""How JAT acts and writes: one token at a time, over cached keys and values.

Acting is stateless: a `JatState` holds environments that stand at any step of their episodes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .backbone_jat import JatBackbone
from .transformer_jat import KeyValueCache

ArrayLike = np.ndarray | Tensor


@dataclass
class JatState:
    """B environments in play, made by `JatModel.init_state`, updated by `get_next_action`.

    cache: keys and values of every token in each window.
    num_timesteps: length of the window.
    timesteps: (B,) int64 on the CPU, place of the next observation in its window.
    last_actions: (B, H) embedding of the action that each environment took last.
    history: (B, 2 * num_timesteps, H) embeddings of the tokens in each window.
    """

    cache: KeyValueCache
    num_timesteps: int
    timesteps: Tensor
    last_actions: Tensor
    history: Tensor


class JatActor(JatBackbone):
    """`init_state` and `get_next_action` play environments, `generate` continues texts."""

    def init_state(self, num_envs: int, num_timesteps: int | None = None) -> JatState:
        """A `JatState` for `num_envs` environments that all open an episode.

        Args:
            num_timesteps: length of the window; None means all positions. Use the length of the
                chunks that the task was trained on, or less.

        Raises:
            ValueError: a window without positions for it, or none.
        """
        limit = self.config.max_position_embeddings // 2
        num_timesteps = limit if num_timesteps is None else num_timesteps
        if not 1 <= num_timesteps <= limit:
            raise ValueError(f"num_timesteps={num_timesteps} must be between 1 and {limit}")
        like = self.transformer.wpe.weight
        hidden = self.config.hidden_size
        return JatState(
            cache=KeyValueCache(self.config, num_envs, 2 * num_timesteps, like),
            num_timesteps=num_timesteps,
            timesteps=torch.zeros(num_envs, dtype=torch.int64),
            last_actions=like.new_zeros(num_envs, hidden),
            history=like.new_zeros(num_envs, 2 * num_timesteps, hidden),
        )

    @torch.no_grad()
    def get_next_action(
        self,
        state: JatState,
        *,
        continuous_observations: ArrayLike | None = None,
        discrete_observations: ArrayLike | None = None,
        image_observations: ArrayLike | None = None,
        rewards: ArrayLike | None = None,
        reset: ArrayLike | None = None,
        action_size: int | None = None,
        num_actions: int | ArrayLike | None = None,
        previous_actions: ArrayLike | None = None,
        do_sample: bool = False,
        generator: torch.Generator | None = None,
    ) -> np.ndarray:
        """The next action of each of the B environments of `state`, which is updated in place.

        A window that is full is prefilled again with its recent half, so that positions stay in
        the trained range; with `refill_window` off it drops its oldest timestep instead, and every
        further step has the last position.

        Args:
            continuous_observations, discrete_observations, image_observations: one of them, as in
                `forward` without the axis of timesteps: (B, D), (B, N) or (B, 4, 84, 84).
            rewards: (B,) rewards that came with these observations; None means 0, and what comes
                with the first observation of an episode is ignored.
            reset: (B,) bool, the environments whose observation opens an episode; None means none
                (a new state needs none).
            action_size: for continuous actions, their size A.
            num_actions: for discrete actions, their number: an int, or (B,) integers.
            previous_actions: (B, A) or (B,), the actions as they were executed where that is not
                what this method returned, for example after clipping.
            do_sample: draws discrete actions instead of taking the likeliest.
            generator: a CPU generator for `do_sample`.

        Returns:
            (B, A) float32, or (B,) int64.

        Raises:
            ValueError: contradictory inputs, or not as many rows as the state has.
        """
        if (action_size is None) == (num_actions is None):
            raise ValueError("give action_size for continuous or num_actions for discrete actions")
        if reset is not None:
            state.timesteps[torch.as_tensor(reset, dtype=torch.bool).cpu()] = 0
        observations = self._embed_step(
            state, continuous_observations, discrete_observations, image_observations, rewards
        )
        if previous_actions is not None:
            state.last_actions = self._embed_step_actions(self._place(previous_actions))
        self._make_room(state)

        tokens = torch.stack([state.last_actions, observations], dim=1)
        positions = 2 * state.timesteps[:, None] + torch.tensor([-1, 0])
        rows = torch.arange(len(tokens))
        # An episode that opens has no previous action: its -1 is the last place, not yet in use.
        state.history[rows[:, None], positions] = tokens.to(state.history.dtype)
        hidden = self.transformer(tokens, cache=state.cache.select(positions))[:, 1:]
        state.timesteps += 1

        if action_size is not None:
            actions = self.continuous_decoder(hidden)[:, 0, :action_size].float()
        else:
            limit = self._place(num_actions)
            logits = (
                self.action_logits(hidden, limit if limit.ndim else int(limit))[:, 0].float().cpu()
            )
            actions = choose(logits, do_sample, generator)
        state.last_actions = self._embed_step_actions(actions.to(self.device))
        return actions.cpu().numpy()

    def _embed_step(
        self,
        state: JatState,
        continuous: ArrayLike | None,
        discrete: ArrayLike | None,
        image: ArrayLike | None,
        rewards: ArrayLike | None,
    ) -> Tensor:
        """Embeddings (B, H) of one observation of each environment."""
        if rewards is not None:
            rewards = self._place(rewards).float() * self._place(state.timesteps > 0)
        kinds = (continuous, discrete, image, rewards)
        embeddings = self.embed_observations(
            *(None if x is None else self._place(x)[:, None] for x in kinds)
        )[:, 0]
        if len(embeddings) != len(state.timesteps):
            raise ValueError(
                f"{len(embeddings)} observations for a state of {len(state.timesteps)} environments"
            )
        return embeddings

    def _embed_step_actions(self, actions: Tensor) -> Tensor:
        """Embeddings (B, H) of continuous (B, A) or discrete (B,) actions."""
        if actions.is_floating_point():
            return self.embed_actions(actions, None)
        return self.embed_actions(None, actions)

    def _place(self, x: Any) -> Tensor:
        return torch.as_tensor(x, device=self.device)

    def _make_room(self, state: JatState) -> None:
        """Frees at least one timestep in every window that is full."""
        window = state.num_timesteps
        full = (state.timesteps == window).nonzero()[:, 0]
        if not len(full):
            return
        if not self.config.enabled("refill_window"):
            state.cache.slide(full, by=2)
            state.timesteps[full] -= 1
            return
        kept = window // 2
        state.timesteps[full] = kept
        # The last action is not in the history yet: it comes with the next observation.
        length = 2 * kept - 1
        if length > 0:
            recent = state.history[full, 2 * (window - kept) : 2 * window - 1]
            state.history[full, :length] = recent
            positions = torch.arange(length).expand(len(full), length)
            self.transformer(recent, cache=state.cache.select(positions, full))

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        max_new_tokens: int = 32,
        do_sample: bool = False,
        temperature: float = 1.0,
        eos_token_id: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Continues B texts, or describes B images.

        Args:
            input_ids: (B, L) int64 prompts, padded on the right; None or L = 0 needs an image.
            attention_mask: (B, L), 0 marks padding; None means no padding.
            pixel_values: images that go first, as in `forward`.
            do_sample: draws tokens at `temperature` instead of taking the likeliest.
            eos_token_id: ends a text and fills the places after it.
            generator: a CPU generator for `do_sample`.

        Returns:
            (B, at most max_new_tokens) int64, the new tokens only.

        Raises:
            ValueError: nothing to start from, or more tokens than positions.
        """
        if input_ids is None:
            rows = 0 if pixel_values is None else len(pixel_values)
            input_ids = torch.zeros(rows, 0, dtype=torch.int64, device=self.device)
        tokens, patches = self.embed_text(input_ids, pixel_values)
        rows, length = tokens.shape[:2]
        if not rows or not length:
            raise ValueError("give a prompt of at least one token, or an image")
        slots = length + max_new_tokens
        if slots > self.config.max_position_embeddings:
            raise ValueError(
                f"{slots} positions for prompt and new tokens exceed max_position_embeddings="
                f"{self.config.max_position_embeddings}: shorten one of them"
            )
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        mask = F.pad(attention_mask.cpu().bool(), (patches, 0), value=True)
        positions = torch.where(mask, torch.arange(length), -1)
        last = positions.max(dim=1, keepdim=True).values
        cache = KeyValueCache(self.config, rows, slots, self.transformer.wpe.weight)
        hidden = self.transformer(tokens, cache=cache.select(positions))
        hidden = hidden[torch.arange(rows), last[:, 0]]

        new: list[Tensor] = []
        ended = torch.zeros(rows, dtype=torch.bool)
        for step in range(max_new_tokens):
            logits = self.single_discrete_decoder(hidden).float().cpu() / temperature
            chosen = choose(logits, do_sample, generator)
            if eos_token_id is not None:
                chosen[ended] = eos_token_id
                ended |= chosen == eos_token_id
            new.append(chosen)
            if bool(ended.all()) or step == max_new_tokens - 1:
                break
            last = last + 1
            tokens = self.transformer.wte(chosen.to(self.device))[:, None]
            hidden = self.transformer(tokens, cache=cache.select(last))[:, 0]
        return torch.stack(new, dim=1).to(self.device)


def choose(logits: Tensor, do_sample: bool, generator: torch.Generator | None) -> Tensor:
    """Ids (B,) int64 of logits (B, V): the likeliest, or drawn."""
    if not do_sample:
        return logits.argmax(dim=-1)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)[:, 0]
