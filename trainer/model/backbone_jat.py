"""What JAT is made of: its transformer, its encoders and decoders, and how inputs become tokens."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init

from .configuration_jat import JatConfig
from .image_jat import ImageDecoder, ImageEncoder
from .linear_jat import Linear, linear
from .transformer_jat import Transformer


class JatBackbone(PreTrainedModel):
    """Every tensor of JAT under its published name.

    Continuous vectors of any size share one linear layer: they are tiled cyclically to its width.
    Shapes: B rows, T timesteps, L tokens, P image patches, H hidden, V vocabulary.
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
        self.continuous_encoder = Linear(width, hidden)
        self.multi_discrete_encoder = nn.Sequential(
            nn.Embedding(vocab, hidden),
            Linear(hidden, bottleneck),
            nn.ReLU(),
            nn.Flatten(-2),
            Linear(numbers * bottleneck, hidden - 1),
        )
        self.image_encoder = nn.ModuleDict({"module": ImageEncoder(hidden)})
        if config.enabled("use_image_rewards"):
            self.image_reward_encoder = nn.Linear(1, hidden, bias=False)
        self.single_discrete_decoder = Linear(hidden, vocab, bias=False)
        self.continuous_decoder = Linear(hidden, width)
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

    def get_input_embeddings(self) -> nn.Module:
        """The token table that texts, discrete observations and discrete actions share."""
        return self.transformer.wte

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            assert module.bias is not None
            init.zeros_(module.bias)
            return
        super()._init_weights(module)
        if module is getattr(self, "image_reward_encoder", None):
            # Zero: weights that never saw image rewards keep their behaviour until trained.
            init.zeros_(self.image_reward_encoder.weight)
        first = self.multi_discrete_encoder[1]
        if module is first and self.config.enabled("amplify_discrete"):
            assert isinstance(first, nn.Linear)
            # The table starts so small that features of unit variance need larger weights.
            scale = self.config.initializer_range * math.sqrt(self.config.hidden_size)
            init.normal_(first.weight, std=1 / scale)

    def embed_text(self, input_ids: Tensor, pixel_values: Tensor | None) -> tuple[Tensor, int]:
        """Embeddings (B, P + L, H), and the number of patches P."""
        tokens = self.transformer.wte(input_ids)
        if pixel_values is None:
            return tokens, 0
        patches = self.vit_encoder["projection"](pixel_values).flatten(2).transpose(1, 2)
        return torch.cat([patches, tokens.to(patches.dtype)], dim=1), patches.shape[1]

    def embed_observations(
        self,
        continuous: Tensor | None,
        discrete: Tensor | None,
        image: Tensor | None,
        rewards: Tensor | None,
        sizes: Tensor | None = None,
    ) -> Tensor:
        """Embeddings (B, T, H) of one kind of observations and of the rewards that came with them.

        `sizes` (B,) of continuous observations, where the rows' differ.

        Raises:
            ValueError: not exactly one kind.
        """
        if sum(x is not None for x in (continuous, discrete, image)) != 1:
            raise ValueError(
                "give input_ids, or exactly one of continuous_observations, "
                "discrete_observations and image_observations"
            )
        if not self.config.observe_rewards:
            rewards = None
        if continuous is not None:
            return self.continuous_encoder(self.tile_observations(continuous, rewards, sizes))
        if discrete is not None:
            return with_rewards(self.embed_numbers(self.repeat(discrete.long())), rewards)
        assert image is not None
        pixels = scale_images(image, self.dtype).flatten(0, 1)
        embeddings = self.image_encoder["module"](pixels).unflatten(0, image.shape[:2])
        if rewards is None or not self.config.enabled("use_image_rewards"):
            return embeddings
        # Raw game scores span five orders of magnitude: symlog (Hafner et al. 2023, equation 1).
        squashed = rewards.sign() * rewards.abs().log1p()
        return embeddings + self.image_reward_encoder(squashed.to(self.dtype)[..., None])

    def embed_numbers(self, numbers: Tensor) -> Tensor:
        """`multi_discrete_encoder` (..., N) → (..., H - 1), cheaply for many numbers."""
        bottleneck, rest = self.multi_discrete_encoder[1], self.multi_discrete_encoder[2:]
        if numbers.numel() > self.config.vocab_size:
            # Each row of the table goes through the first layer once, however often it occurs.
            return rest(F.embedding(numbers, bottleneck(self.transformer.wte.weight)))
        return rest(bottleneck(self.transformer.wte(numbers)))

    def embed_actions(
        self, continuous: Tensor | None, discrete: Tensor | None, sizes: Tensor | None = None
    ) -> Tensor:
        """Embeddings (B, T, H) of one kind of actions; `sizes` as of observations.

        Raises:
            ValueError: not exactly one kind.
        """
        if (continuous is None) == (discrete is None):
            raise ValueError("give exactly one of continuous_actions and discrete_actions")
        if continuous is not None:
            return self.continuous_encoder(self.tile(continuous, sizes))
        assert discrete is not None
        return self.single_discrete_encoder(discrete.long())

    def tile_observations(
        self, continuous: Tensor, rewards: Tensor | None, sizes: Tensor | None
    ) -> Tensor:
        """Continuous observations (B, T, D) and their rewards, tiled; `sizes` (B,) are up to D."""
        joined = with_rewards(continuous, rewards)
        if sizes is None:
            return self.tile(joined)
        # The reward follows a row's own numbers, before its padding.
        places = self._cycle(sizes + 1)
        places = torch.where(places == sizes[:, None], continuous.shape[-1], places)
        return self._take(joined, places)

    def tile(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Repeats (B, T, D) cyclically to (B, T, max_continuous_size).

        `sizes` (B,): of each row the first so many numbers are repeated, the rest is padding.

        Raises:
            ValueError: D exceeds that size.
        """
        if sizes is not None:
            return self._take(x, self._cycle(sizes))
        self._check_width(x)
        width, size = self.config.max_continuous_size, x.shape[-1]
        repeats = math.ceil(width / size)
        return x.to(self.dtype).repeat(*[1] * (x.ndim - 1), repeats)[..., :width]

    def repeat(self, numbers: Tensor) -> Tensor:
        """Repeats (B, T, N) integers cyclically to (B, T, max_discrete_value).

        Raises:
            ValueError: N exceeds that size.
        """
        width, size = self.config.max_discrete_value, numbers.shape[-1]
        if size == width:
            return numbers
        if size > width:
            raise ValueError(f"{size} integers exceed max_discrete_value={width}")
        return numbers.repeat(1, 1, math.ceil(width / size))[..., :width]

    def _cycle(self, sizes: Tensor) -> Tensor:
        """0, 1, ..., sizes[b] - 1, 0, 1, ... for each row: (B, max_continuous_size) int64."""
        return torch.arange(self.config.max_continuous_size, device=sizes.device) % sizes[:, None]

    def _take(self, x: Tensor, places: Tensor) -> Tensor:
        """The numbers of (B, T, D) at `places` (B, W) of their row: (B, T, W)."""
        self._check_width(x)
        return x.to(self.dtype).gather(2, places[:, None].expand(-1, x.shape[1], -1))

    def _check_width(self, x: Tensor) -> None:
        width, size = self.config.max_continuous_size, x.shape[-1]
        if size > width:
            raise ValueError(
                f"{size} continuous values, the reward included, exceed max_continuous_size={width}"
            )

    def action_logits(
        self, hidden: Tensor, num_actions: int | Tensor | None, allowed: Tensor | None = None
    ) -> Tensor:
        """Logits (B, T, V), or of the first `num_actions` ids; -inf beyond a row's own number.

        `allowed` (B, A) bool: the logits are of the first A ids, -inf where it is False.
        """
        if isinstance(num_actions, Tensor):
            ids = torch.arange(int(num_actions.max()), device=hidden.device)
            allowed = ids < num_actions[:, None]
        if allowed is not None:
            num_actions = allowed.shape[1]
        if num_actions is None:
            return self.single_discrete_decoder(hidden)
        logits = linear(hidden, self.single_discrete_decoder.weight[:num_actions])
        if allowed is None:
            return logits
        return logits.masked_fill(~allowed[:, None], float("-inf"))


def with_rewards(x: Tensor, rewards: Tensor | None) -> Tensor:
    """Appends (B, T) rewards, or zeros, to (B, T, D) as the last channel."""
    if rewards is None:
        return F.pad(x, (0, 1))
    return torch.cat([x, rewards[..., None].to(x.dtype)], dim=-1)


def scale_images(images: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 screens to [-1, 1]; floats are taken as scaled already."""
    scaled = images.to(dtype)
    return scaled if images.is_floating_point() else scaled / 127.5 - 1
