"""JAT, one transformer for control, text and images (Gallouédec et al. 2024, arXiv 2402.09844).

- two tokens a timestep, [observation with the last reward, action]: the observation token predicts
  the action, the action token predicts the next observation
- the tensor names of the published checkpoint (`backbone_jat.py`); `JatConfig` names each behaviour
  we changed
- acting needs no state inside the model (`acting_jat.py`)
Shapes: B rows, T timesteps, L tokens, P image patches, H hidden, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.utils.generic import ModelOutput

from .acting_jat import JatActor
from .backbone_jat import scale_images, with_rewards


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


class JatModel(JatActor):
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
        observations = self.embed_observations(
            continuous_observations, discrete_observations, image_observations, rewards
        )
        actions = self.embed_actions(continuous_actions, discrete_actions)
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
        tokens, patches = self.embed_text(input_ids, pixel_values)
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
            loss = steps.squared_error(predicted, self.tile(continuous))
            return predicted[..., : continuous.shape[-1]], loss
        assert discrete is not None
        if not self.config.enabled("restrict_actions"):
            num_actions = None
        logits = self.action_logits(hidden, num_actions)
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
            targets = self.tile(with_rewards(continuous, rewards))
            shown = predicted[..., : continuous.shape[-1]]
        else:
            assert image is not None
            flat = self.image_decoder["module"](hidden.flatten(0, 1))
            shown = predicted = flat.unflatten(0, hidden.shape[:2])
            targets = scale_images(image, torch.float32)
        last = targets.shape[1] - 1
        return shown, steps.squared_error(predicted[:, :last], targets[:, 1:])


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
        """Of logits (B, T, V) and ids (B, T).

        With `weigh_steps` off, the unweighted mean times the mean weight.
        """
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


JatModel.register_for_auto_class("AutoModelForCausalLM")
