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
from .backbone_jat import scale_images
from .image_jat import stack_frames
from .losses_jat import Loss, StepMean


@dataclass
class JatOutput(ModelOutput):
    """What `JatModel.forward` computes; a field that does not apply is None.

    loss, observation_loss, action_loss: float32 scalars.
    pred_observations: (B, T, ...) like the observations; place t predicts observation t + 1.
    pred_actions: (B, T, A) continuous actions, or logits (B, T, V or num_actions), of place t.
    logits: (B, P + L, V) of a text task, image patches first; place i predicts token i + 1.
    row_losses: (B,) float32 without gradient, the loss of each row alone.
    """

    loss: Tensor | None = None
    observation_loss: Tensor | None = None
    action_loss: Tensor | None = None
    pred_observations: Tensor | None = None
    pred_actions: Tensor | None = None
    logits: Tensor | None = None
    row_losses: Tensor | None = None


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
        frames: Tensor | None = None,
        continuous_actions: Tensor | None = None,
        discrete_actions: Tensor | None = None,
        rewards: Tensor | None = None,
        attention_mask: Tensor | None = None,
        documents: Tensor | None = None,
        observation_sizes: Tensor | None = None,
        action_sizes: Tensor | None = None,
        loss_weight: Tensor | None = None,
        num_actions: int | Tensor | None = None,
        allowed_actions: Tensor | None = None,
        return_loss: bool = True,
        return_predictions: bool | None = None,
        return_row_losses: bool = False,
    ) -> JatOutput:
        """Predictions and losses of one batch, whose rows may be of several tasks of one kind.

        Text: `input_ids`, with `pixel_values` when an image goes first.
        Control: one kind of observations, one kind of actions, `rewards`.

        Args:
            input_ids: (B, L) int64.
            pixel_values: (B, num_channels, image_size, image_size) float, normalised.
            continuous_observations: (B, T, D) float, D < max_continuous_size.
            discrete_observations: (B, T, N) integers below V, N up to max_discrete_value; fewer are
                repeated.
            image_observations: (B, T, 4, 84, 84), uint8, or float in [-1, 1].
            frames: (B, T + 3, 84, 84), the same screens without repetition: a timestep's own frame
                after the three before it.
            continuous_actions: (B, T, A) float.
            discrete_actions: (B, T) integers.
            rewards: (B, T) float, the reward that came **with** observation t: action t - 1 earned
                it, and it is 0 when t opens an episode. None means 0.
            attention_mask: (B, T), or (B, L) for text; 0 marks padding, which must be on the
                right: while training, nothing else hides it from the other tokens.
            documents: (B, L) integers, for text without images: the document of each token, where
                a row has several, padding its own. A document is read as if it were alone.
            observation_sizes, action_sizes: (B,) integers, how many of the D or A numbers are a
                row's own, the others being padding. None means all.
            loss_weight: (B, T) float, for control only; None means 1.
            num_actions: the discrete actions of the task are the first `num_actions` ids: an int,
                or (B,) integers where the rows are of several tasks. None means V.
            allowed_actions: (B, A) bool, in its place: which of the first A ids are actions of the
                row's task. Unlike (B,) integers it makes no device wait.
            return_loss: whether to compute the losses.
            return_predictions: whether to return predictions; None means no while a loss is
                trained, unless the model is in published mode. Leaving them out is faster.
            return_row_losses: whether to return the loss of each row.

        Raises:
            ValueError: no or contradictory inputs, or more tokens than positions.
        """
        if return_predictions is None:
            training = self.training and return_loss and self.config.compatibility is None
            return_predictions = not training
        if input_ids is not None:
            output = self._forward_text(
                input_ids, pixel_values, attention_mask, documents, return_predictions
            )
            return select_fields(output, return_loss, return_predictions, return_row_losses)
        if frames is not None:
            image_observations = stack_frames(frames)
        observations = self.embed_observations(
            continuous_observations,
            discrete_observations,
            image_observations,
            rewards,
            observation_sizes,
        )
        actions = self.embed_actions(continuous_actions, discrete_actions, action_sizes)
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
        output.pred_actions, loss = self._action_head(
            hidden[:, :, 0],
            continuous_actions,
            discrete_actions,
            steps,
            sizes=action_sizes,
            num_actions=num_actions,
            allowed=allowed_actions,
        )
        output.action_loss = loss.mean
        loss = loss * self.config.action_loss_coef
        kappa = self.config.observation_loss_coef
        if discrete_observations is None and (return_predictions or kappa):
            # The last prediction has no target.
            used = hidden[:, :, 1] if return_predictions else hidden[:, :-1, 1]
            output.pred_observations, observed = self._observation_head(
                used, continuous_observations, image_observations, rewards, steps, observation_sizes
            )
            output.observation_loss = observed.mean
            loss = loss + observed * kappa
        output.loss, output.row_losses = loss.mean, loss.rows
        return select_fields(output, return_loss, return_predictions, return_row_losses)

    def _forward_text(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None,
        attention_mask: Tensor | None,
        documents: Tensor | None,
        return_predictions: bool,
    ) -> JatOutput:
        if documents is not None and pixel_values is not None:
            raise ValueError("documents are for text without pixel_values")
        tokens, patches = self.embed_text(input_ids, pixel_values)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        token_mask = self._token_mask(F.pad(attention_mask, (patches, 0), value=1))
        hidden = self.transformer(tokens, token_mask, documents=documents)

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
        valid = attention_mask[:, skip:]
        if documents is not None:
            # The last token of a document does not predict the first of the next.
            valid = valid * (documents[:, 1:] == documents[:, :-1])
        loss = StepMean(valid, None).cross_entropy(logits, input_ids[:, skip:])
        output.loss, output.row_losses = loss.mean, loss.rows
        return output

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
        steps: StepMean,
        sizes: Tensor | None,
        num_actions: int | Tensor | None,
        allowed: Tensor | None,
    ) -> tuple[Tensor, Loss]:
        """Predicted actions, and their loss, of observation tokens (B, T, H)."""
        if continuous is not None:
            predicted = self.continuous_decoder(hidden)
            loss = steps.squared_error(predicted, self.tile(continuous, sizes))
            return predicted[..., : continuous.shape[-1]], loss
        assert discrete is not None
        if not self.config.enabled("restrict_actions"):
            num_actions = allowed = None
        logits = self.action_logits(hidden, num_actions, allowed)
        weigh_steps = self.config.enabled("weigh_discrete_actions")
        return logits, steps.cross_entropy(logits, discrete, weigh_steps)

    def _observation_head(
        self,
        hidden: Tensor,
        continuous: Tensor | None,
        image: Tensor | None,
        rewards: Tensor | None,
        steps: StepMean,
        sizes: Tensor | None,
    ) -> tuple[Tensor, Loss]:
        """Predicted next observations, and their loss, of action tokens (B, T or T - 1, H)."""
        if continuous is not None:
            predicted = self.continuous_decoder(hidden)
            targets = self.tile_observations(continuous, rewards, sizes)
            shown = predicted[..., : continuous.shape[-1]]
        else:
            assert image is not None
            flat = self.image_decoder["module"](hidden.flatten(0, 1))
            shown = predicted = flat.unflatten(0, hidden.shape[:2])
            targets = scale_images(image, torch.float32)
        last = targets.shape[1] - 1
        return shown, steps.squared_error(predicted[:, :last], targets[:, 1:])


def select_fields(output: JatOutput, losses: bool, predictions: bool, rows: bool) -> JatOutput:
    """The same output without its losses, without its predictions, or without those of rows."""
    hidden = () if losses else ("loss", "observation_loss", "action_loss")
    if not predictions:
        hidden = (*hidden, "pred_observations", "pred_actions", "logits")
    if not rows:
        hidden = (*hidden, "row_losses")
    return JatOutput(**{name: value for name, value in output.items() if name not in hidden})


JatModel.register_for_auto_class("AutoModelForCausalLM")
