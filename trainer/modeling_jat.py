"""JAT, one transformer for control, text and images (Gallouédec et al. 2024, arXiv 2402.09844).

- two tokens a timestep, [observation with the last reward, action]: the observation token predicts
  the action, the action token predicts the next observation
- continuous vectors of any size share one linear layer: they are tiled cyclically to its width
- the tensor names of the published checkpoint; `JatConfig` names each behaviour we changed
- acting is stateless: a `JatState` holds environments that stand at any step of their episodes
Shapes: B rows, T timesteps, L tokens, P image patches, H hidden, V vocabulary.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils.generic import ModelOutput

from .configuration_jat import JatConfig
from .image_jat import ImageDecoder, ImageEncoder
from .transformer_jat import KeyValueCache, Transformer

ArrayLike = np.ndarray | Tensor


@dataclass
class JatOutput(ModelOutput):
    """What `JatModel.forward` computes; a field that does not apply is None.

    loss, observation_loss, action_loss: float32 scalars.
    pred_observations: (B, T, ...) like the observations; place t predicts observation t + 1.
    pred_actions: (B, T, A) continuous actions, or logits (B, T, V or num_actions), of place t.
    logits: (B, P + L, V) of a text task, image patches first; place i predicts token i + 1.
    """

    loss: Tensor | None = None
    observation_loss: Tensor | None = None
    action_loss: Tensor | None = None
    pred_observations: Tensor | None = None
    pred_actions: Tensor | None = None
    logits: Tensor | None = None


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


class JatModel(PreTrainedModel):
    """JAT. See `forward` to train, `init_state` and `get_next_action` to act, `generate` for text.

    ```
    loss = model(continuous_observations=o, continuous_actions=a, rewards=r).loss

    state = model.init_state(num_envs=64, num_timesteps=128)
    reset = np.ones(64, bool)                       # every episode starts
    while playing:
        actions = model.get_next_action(
            state, image_observations=frames, rewards=rewards, reset=reset, num_actions=18
        )
        frames, rewards, terminated, truncated, _ = envs.step(actions)
        reset = ...                                 # rows whose observation opens an episode
    ```
    """

    config_class = JatConfig
    config: JatConfig
    base_model_prefix = "jat"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]  # noqa: RUF012
    _supports_sdpa = True
    _tied_weights_keys = {  # noqa: RUF012
        "single_discrete_encoder.weight": "transformer.wte.weight",
        "multi_discrete_encoder.0.weight": "transformer.wte.weight",
    }

    def __init__(self, config: JatConfig):
        super().__init__(config)
        hidden, vocab, width = config.hidden_size, config.vocab_size, config.max_continuous_size
        numbers, bottleneck = config.max_discrete_value, config.discrete_bottleneck_size
        assert bottleneck is not None
        patch = config.patch_size
        self.transformer = Transformer(config)
        self.vit_encoder = nn.ModuleDict(
            {"projection": nn.Conv2d(config.num_channels, hidden, patch, stride=patch)}
        )
        self.single_discrete_encoder = nn.Embedding(vocab, hidden)
        self.continuous_encoder = nn.Linear(width, hidden)
        self.multi_discrete_encoder = nn.Sequential(
            nn.Embedding(vocab, hidden),
            nn.Linear(hidden, bottleneck),
            nn.ReLU(),
            nn.Flatten(-2),
            nn.Linear(numbers * bottleneck, hidden - 1),
        )
        self.image_encoder = nn.ModuleDict({"module": ImageEncoder(hidden)})
        if config.enabled("use_image_rewards"):
            self.image_reward_encoder = nn.Linear(1, hidden, bias=False)
        self.single_discrete_decoder = nn.Linear(hidden, vocab, bias=False)
        self.continuous_decoder = nn.Linear(hidden, width)
        # Unused, as discrete observations are not predicted: here so that published weights load.
        self.multi_discrete_decoder = nn.Sequential(
            nn.Linear(hidden, numbers * bottleneck),
            nn.Unflatten(-1, (numbers, bottleneck)),
            nn.ReLU(),
            nn.Linear(bottleneck, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 8, bias=False),
        ).requires_grad_(False)
        self.image_decoder = nn.ModuleDict({"module": ImageDecoder(hidden)})
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            assert module.bias is not None
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and module is getattr(
            self, "image_reward_encoder", None
        ):
            # Zero: weights that never saw image rewards keep their behaviour until trained.
            init.zeros_(module.weight)
        else:
            super()._init_weights(module)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        continuous_observations: Tensor | None = None,
        discrete_observations: Tensor | None = None,
        image_observations: Tensor | None = None,
        continuous_actions: Tensor | None = None,
        discrete_actions: Tensor | None = None,
        rewards: Tensor | None = None,
        attention_mask: Tensor | None = None,
        loss_weight: Tensor | None = None,
        num_actions: int | Tensor | None = None,
        return_loss: bool = True,
        return_predictions: bool | None = None,
    ) -> JatOutput:
        """Predictions and losses of one batch, whose rows are all of one kind of task.

        Text: `input_ids`, with `pixel_values` when an image goes first.
        Control: one kind of observations, one kind of actions, `rewards`.

        Args:
            input_ids: (B, L) int64.
            pixel_values: (B, num_channels, image_size, image_size) float, normalised.
            continuous_observations: (B, T, D) float, D < max_continuous_size.
            discrete_observations: (B, T, max_discrete_value) integers below V.
            image_observations: (B, T, 4, 84, 84), uint8, or float in [-1, 1].
            continuous_actions: (B, T, A) float.
            discrete_actions: (B, T) integers.
            rewards: (B, T) float, the reward that came **with** observation t: action t - 1 earned
                it, and it is 0 when t opens an episode. None means 0.
            attention_mask: (B, T), or (B, L) for text; 0 marks padding, which must be on the
                right: while training, nothing else hides it from the other tokens.
            loss_weight: (B, T) float, for control only; None means 1.
            num_actions: the discrete actions of the task are the first `num_actions` ids: an int,
                or (B,) integers where the rows are of several tasks. None means V.
            return_loss: whether to compute the losses.
            return_predictions: whether to return predictions; None means no while a loss is
                trained, unless the model is in published mode. Leaving them out is faster.

        Raises:
            ValueError: no or contradictory inputs, or more tokens than positions.
        """
        if return_predictions is None:
            training = self.training and return_loss and self.config.compatibility is None
            return_predictions = not training
        if input_ids is not None:
            return self._forward_text(
                input_ids, pixel_values, attention_mask, return_loss, return_predictions
            )
        observations = self._embed_observations(
            continuous_observations, discrete_observations, image_observations, rewards
        )
        actions = self._embed_actions(continuous_actions, discrete_actions)
        if observations.shape != actions.shape:
            raise ValueError(
                f"observations cover (rows, timesteps) {tuple(observations.shape[:2])}, actions "
                f"{tuple(actions.shape[:2])}: give one action for each observation"
            )
        tokens = torch.stack([observations, actions], dim=2).flatten(1, 2)
        token_mask = self._token_mask(attention_mask)
        if token_mask is not None:
            token_mask = token_mask.repeat_interleave(2, dim=1)
        hidden = self.transformer(tokens, token_mask).unflatten(1, (-1, 2))

        if attention_mask is None:
            attention_mask = observations.new_ones(observations.shape[:2])
        steps = StepMean(attention_mask, loss_weight)
        output = JatOutput()
        output.pred_actions, output.action_loss = self._action_head(
            hidden[:, :, 0], continuous_actions, discrete_actions, num_actions, steps
        )
        output.loss = self.config.action_loss_coef * output.action_loss
        kappa = self.config.observation_loss_coef
        if discrete_observations is None and (return_predictions or kappa):
            # The last prediction has no target.
            used = hidden[:, :, 1] if return_predictions else hidden[:, :-1, 1]
            output.pred_observations, output.observation_loss = self._observation_head(
                used, continuous_observations, image_observations, rewards, steps
            )
            output.loss = output.loss + kappa * output.observation_loss
        return select_fields(output, return_loss, return_predictions)

    def _forward_text(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None,
        attention_mask: Tensor | None,
        return_loss: bool,
        return_predictions: bool,
    ) -> JatOutput:
        tokens, patches = self._embed_text(input_ids, pixel_values)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        token_mask = self._token_mask(F.pad(attention_mask, (patches, 0), value=1))
        hidden = self.transformer(tokens, token_mask)

        output = JatOutput()
        # Place i predicts token i + 1, so the last patch predicts the first token of a caption.
        first = patches - 1 if self.config.enabled("train_first_caption_token") else patches
        first = max(first, 0)
        if return_predictions:
            output.logits = all_logits = self.single_discrete_decoder(hidden)
            logits = all_logits[:, first:-1]
        else:
            logits = self.single_discrete_decoder(hidden[:, first:-1])
        skip = input_ids.shape[1] - logits.shape[1]
        steps = StepMean(attention_mask[:, skip:], None)
        output.loss = steps.cross_entropy(logits, input_ids[:, skip:])
        return select_fields(output, return_loss, return_predictions)

    def _embed_text(self, input_ids: Tensor, pixel_values: Tensor | None) -> tuple[Tensor, int]:
        """Embeddings (B, P + L, H), and the number of patches P."""
        tokens = self.transformer.wte(input_ids)
        if pixel_values is None:
            return tokens, 0
        patches = self.vit_encoder["projection"](pixel_values).flatten(2).transpose(1, 2)
        return torch.cat([patches, tokens.to(patches.dtype)], dim=1), patches.shape[1]

    def _embed_observations(
        self,
        continuous: Tensor | None,
        discrete: Tensor | None,
        image: Tensor | None,
        rewards: Tensor | None,
    ) -> Tensor:
        """Embeddings (B, T, H) of one kind of observations and of the rewards that came with them.

        Raises:
            ValueError: not exactly one kind.
        """
        if sum(x is not None for x in (continuous, discrete, image)) != 1:
            raise ValueError(
                "give input_ids, or exactly one of continuous_observations, "
                "discrete_observations and image_observations"
            )
        if continuous is not None:
            return self.continuous_encoder(self._tile(with_rewards(continuous, rewards)))
        if discrete is not None:
            return with_rewards(self.multi_discrete_encoder(discrete.long()), rewards)
        assert image is not None
        pixels = scale_images(image, self.dtype).flatten(0, 1)
        embeddings = self.image_encoder["module"](pixels).unflatten(0, image.shape[:2])
        if rewards is None or not self.config.enabled("use_image_rewards"):
            return embeddings
        # Raw game scores span five orders of magnitude: symlog (Hafner et al. 2023, equation 1).
        squashed = rewards.sign() * rewards.abs().log1p()
        return embeddings + self.image_reward_encoder(squashed.to(self.dtype)[..., None])

    def _embed_actions(self, continuous: Tensor | None, discrete: Tensor | None) -> Tensor:
        """Embeddings (B, T, H) of one kind of actions.

        Raises:
            ValueError: not exactly one kind.
        """
        if (continuous is None) == (discrete is None):
            raise ValueError("give exactly one of continuous_actions and discrete_actions")
        if continuous is not None:
            return self.continuous_encoder(self._tile(continuous))
        assert discrete is not None
        return self.single_discrete_encoder(discrete.long())

    def _tile(self, x: Tensor) -> Tensor:
        """Repeats (..., D) cyclically to (..., max_continuous_size).

        Raises:
            ValueError: D exceeds that size.
        """
        width, size = self.config.max_continuous_size, x.shape[-1]
        if size > width:
            raise ValueError(
                f"{size} continuous values, the reward included, exceed max_continuous_size={width}"
            )
        repeats = math.ceil(width / size)
        return x.to(self.dtype).repeat(*[1] * (x.ndim - 1), repeats)[..., :width]

    def _token_mask(self, attention_mask: Tensor | None) -> Tensor | None:
        """The mask that attention needs: none while training, as padding is on the right.

        The published model masks always, which changes what it predicts at padded places.
        """
        if self.training and self.config.compatibility is None:
            return None
        return attention_mask

    def _action_head(
        self,
        hidden: Tensor,
        continuous: Tensor | None,
        discrete: Tensor | None,
        num_actions: int | Tensor | None,
        steps: "StepMean",
    ) -> tuple[Tensor, Tensor]:
        """Predicted actions, and their loss, of observation tokens (B, T, H)."""
        if continuous is not None:
            predicted = self.continuous_decoder(hidden)
            loss = steps.squared_error(predicted, self._tile(continuous))
            return predicted[..., : continuous.shape[-1]], loss
        assert discrete is not None
        if not self.config.enabled("restrict_actions"):
            num_actions = None
        logits = self._action_logits(hidden, num_actions)
        weigh_steps = self.config.enabled("weigh_discrete_actions")
        return logits, steps.cross_entropy(logits, discrete, weigh_steps)

    def _observation_head(
        self,
        hidden: Tensor,
        continuous: Tensor | None,
        image: Tensor | None,
        rewards: Tensor | None,
        steps: "StepMean",
    ) -> tuple[Tensor, Tensor]:
        """Predicted next observations, and their loss, of action tokens (B, T or T - 1, H)."""
        if continuous is not None:
            predicted = self.continuous_decoder(hidden)
            targets = self._tile(with_rewards(continuous, rewards))
            shown = predicted[..., : continuous.shape[-1]]
        else:
            assert image is not None
            flat = self.image_decoder["module"](hidden.flatten(0, 1))
            shown = predicted = flat.unflatten(0, hidden.shape[:2])
            targets = scale_images(image, predicted.dtype)
        last = targets.shape[1] - 1
        return shown, steps.squared_error(predicted[:, :last], targets[:, 1:])

    def _action_logits(self, hidden: Tensor, num_actions: int | Tensor | None) -> Tensor:
        """Logits (B, T, V), or of the first `num_actions` ids; -inf beyond a row's own number."""
        if num_actions is None:
            return self.single_discrete_decoder(hidden)
        if isinstance(num_actions, int):
            return F.linear(hidden, self.single_discrete_decoder.weight[:num_actions])
        most = int(num_actions.max())
        logits = F.linear(hidden, self.single_discrete_decoder.weight[:most])
        beyond = torch.arange(most, device=hidden.device) >= num_actions[:, None, None]
        return logits.masked_fill(beyond, float("-inf"))

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
            state.timesteps[torch.as_tensor(reset, dtype=torch.bool)] = 0
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
                self._action_logits(hidden, limit if limit.ndim else int(limit))[:, 0].float().cpu()
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
        embeddings = self._embed_observations(
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
            return self._embed_actions(actions, None)
        return self._embed_actions(None, actions)

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
        tokens, patches = self._embed_text(input_ids, pixel_values)
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


class StepMean:
    """Losses of places (B, T): weighted sums over valid places, divided by their number."""

    def __init__(self, mask: Tensor, weight: Tensor | None):
        self.mask = mask.float()
        self.weight = self.mask if weight is None else self.mask * weight

    def squared_error(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Mean over the trailing axes of (B, K, ...), then over the last K places."""
        error = (predicted.float() - target.float()).square().flatten(2).mean(dim=2)
        skip = self.mask.shape[1] - error.shape[1]
        return (error * self.weight[:, skip:]).sum() / self.mask[:, skip:].sum().clamp(min=1)

    def cross_entropy(self, logits: Tensor, target: Tensor, weigh_steps: bool = True) -> Tensor:
        """Of logits (B, T, V) and ids (B, T); else the plain mean times the mean weight."""
        error = F.cross_entropy(
            logits.flatten(0, 1).float(), target.flatten().long(), reduction="none"
        ).view(target.shape)
        count = self.mask.sum().clamp(min=1)
        if weigh_steps:
            return (error * self.weight).sum() / count
        return (error * self.mask).sum() / count * (self.weight.sum() / count)


def select_fields(output: JatOutput, losses: bool, predictions: bool) -> JatOutput:
    """The same output without its losses, or without its predictions."""
    hidden = () if losses else ("loss", "observation_loss", "action_loss")
    if not predictions:
        hidden = (*hidden, "pred_observations", "pred_actions", "logits")
    return JatOutput(**{name: value for name, value in output.items() if name not in hidden})


def with_rewards(x: Tensor, rewards: Tensor | None) -> Tensor:
    """Appends (B, T) rewards, or zeros, to (B, T, D) as the last channel."""
    if rewards is None:
        return F.pad(x, (0, 1))
    return torch.cat([x, rewards[..., None].to(x.dtype)], dim=-1)


def scale_images(images: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 screens to [-1, 1]; floats are taken as scaled already."""
    scaled = images.to(dtype)
    return scaled if images.is_floating_point() else scaled / 127.5 - 1


def choose(logits: Tensor, do_sample: bool, generator: torch.Generator | None) -> Tensor:
    """Ids (B,) int64 of logits (B, V): the likeliest, or drawn."""
    if not do_sample:
        return logits.argmax(dim=-1)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)[:, 0]


JatModel.register_for_auto_class("AutoModelForCausalLM")
