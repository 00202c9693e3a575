"""Configuration of JAT: sizes, loss weights, a switch for each published behaviour we change."""

from typing import Any, ClassVar

from transformers import PreTrainedConfig

# Sizes only: whatever a preset leaves out keeps its default, and "small" is the published model.
PRESETS: dict[str, dict[str, Any]] = {
    "laptop": {
        "hidden_size": 192,
        "num_layers": 4,
        "num_heads": 4,
        "attention_types": [[["global"], 4]],
        "discrete_bottleneck_size": 8,
        "image_size": 112,
    },
    "small": {},
    "medium": {"hidden_size": 1024, "num_layers": 24, "num_heads": 16},
    "large": {"hidden_size": 1536, "num_layers": 24, "num_heads": 16},
}


class JatConfig(PreTrainedConfig):
    """Sizes and behaviour of a `JatModel`.

    The architecture follows GPT-Neo (Black et al. 2021) inside JAT (Gallouédec et al. 2024,
    arXiv 2402.09844); the defaults are the sizes of the published checkpoint.

    Sizes:
        vocab_size: tokens shared by text, discrete observations and discrete actions.
        max_position_embeddings: longest sequence; a timestep takes two positions.
        hidden_size, num_layers, num_heads, intermediate_size: the transformer;
            `intermediate_size=None` means 4 × hidden_size.
        attention_types: `[[kinds, repeats], ...]`, kinds among "global" and "local";
            None alternates global and local.
        window_size: positions that a local layer sees, its own included.
        max_continuous_size: width that continuous observations and actions are tiled to.
        max_discrete_value: integers in one discrete observation (the published name).
        discrete_bottleneck_size: features kept of each such integer; None means hidden_size // 50
            (at least 1).
        image_size, patch_size, num_channels: images of the text tasks, in pixels.

    Loss: `observation_loss_coef` (κ) and `action_loss_coef` weigh the losses of a control task.

    Input: `observe_rewards` (True) tells the model the last reward with each observation; False
    hides it, as in the paper's study of the reward.

    Behaviour: a switch left at None is on, or off when `compatibility="published"`; ask
    `enabled(switch)`.
        train_first_caption_token: the last image patch learns to predict the first caption token.
            False leaves that token untrained.
        use_image_rewards: the last reward is added to the embedding of an image observation.
            False ignores it.
        weigh_discrete_actions: `loss_weight` weighs each step of a discrete action loss.
            False multiplies that loss by the mean weight of the batch instead.
        restrict_actions: `num_actions` restricts the training logits of discrete actions to the
            actions of the task. False always scores the whole vocabulary.
        amplify_discrete: the features of discrete observations start with unit variance.
            False starts them some ten times smaller, from which they are learned late.
        refill_window: when acting, a full window is prefilled again with its recent half.
            False drops the oldest timestep and freezes the position of the newest.

    Raises:
        ValueError: an unknown compatibility or attention kind, or sizes that do not fit together.
    """

    model_type = "jat"
    attribute_map: ClassVar = {
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
    }

    vocab_size: int = 50257
    max_position_embeddings: int = 512
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    attention_types: list | None = None
    intermediate_size: int | None = None
    window_size: int = 256
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    max_continuous_size: int = 377
    max_discrete_value: int = 212
    discrete_bottleneck_size: int | None = None
    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    observation_loss_coef: float = 0.005
    action_loss_coef: float = 0.995
    observe_rewards: bool = True
    compatibility: str | None = None
    train_first_caption_token: bool | None = None
    use_image_rewards: bool | None = None
    weigh_discrete_actions: bool | None = None
    restrict_actions: bool | None = None
    amplify_discrete: bool | None = None
    refill_window: bool | None = None
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs):
        if self.compatibility not in (None, "published"):
            raise ValueError(
                f"compatibility={self.compatibility!r} is unknown: use None or 'published'"
            )
        if self.attention_types is None:
            pairs, odd = divmod(self.num_layers, 2)
            self.attention_types = [[["global", "local"], pairs]] + [[["global"], 1]] * odd
        if self.intermediate_size is None:
            self.intermediate_size = 4 * self.hidden_size
        if self.discrete_bottleneck_size is None:
            self.discrete_bottleneck_size = max(1, self.hidden_size // 50)
        self._check_sizes()
        kwargs.pop("attention_layers", None)  # published too, but it follows from attention_types
        super().__post_init__(**kwargs)

    @property
    def attention_layers(self) -> list[str]:
        """The kind of every layer, "global" or "local", from `attention_types`."""
        assert self.attention_types is not None
        return [kind for kinds, repeats in self.attention_types for kind in kinds * repeats]

    def enabled(self, switch: str) -> bool:
        """Whether a behaviour is on: its own value if set, else what `compatibility` says."""
        value = getattr(self, switch)
        return self.compatibility is None if value is None else value

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "JatConfig":
        """The configuration of a named size: "laptop", "small" (published), "medium" or "large".

        Raises:
            ValueError: an unknown name.
        """
        if name not in PRESETS:
            raise ValueError(f"preset {name!r} is unknown: use one of {', '.join(PRESETS)}")
        return cls(**{**PRESETS[name], **overrides})

    def _check_sizes(self) -> None:
        layers = self.attention_layers
        if len(layers) != self.num_layers or not set(layers) <= {"global", "local"}:
            raise ValueError(
                f"attention_types={self.attention_types} must name 'global' or 'local' "
                f"for each of the {self.num_layers} layers"
            )
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} must be a multiple of num_heads={self.num_heads}"
            )
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size={self.image_size} must be a multiple of patch_size={self.patch_size}"
            )


JatConfig.register_for_auto_class()
