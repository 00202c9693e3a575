"""The causal transformer inside JAT.

GPT-Neo (Black et al. 2021): learned absolute positions, pre-norm blocks, alternating global and
local attention, no 1/sqrt(d) scaling, no bias in the query, key and value projections.
Shapes: B rows, L tokens, S cache slots, H hidden, N heads, D = H / N.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_jat import JatConfig
from .linear_jat import Linear

Masks = dict[str, Tensor | None]


class KeyValueCache:
    """Keys and values of B rows that stand at different positions.

    Position p lives in slot p + 1. Slot 0 is scratch: a row that has nothing to write at a place
    of the batch gives position -1. Nothing is cleared when a row starts again at position 0,
    because a query never sees a slot beyond its own position.
    """

    def __init__(self, config: JatConfig, rows: int, positions: int, like: Tensor):
        head_size = config.hidden_size // config.num_heads
        shape = (config.num_layers, 2, rows, positions + 1, config.num_heads, head_size)
        self.data = like.new_zeros(shape)
        self.window_size = config.window_size

    def select(self, positions: Tensor, rows: Tensor | None = None) -> "CacheView":
        """The part of the cache in which `rows` (R,) (all when None) write at `positions` (R, L).

        Both are int64 on the CPU: the host decides how many slots a step reads.
        """
        return CacheView(self, positions, rows)

    def slide(self, rows: Tensor, by: int) -> None:
        """Forgets the oldest `by` positions of `rows` (R,) and moves the others down."""
        rows = rows.to(self.data.device)
        self.data[:, :, rows, 1:-by] = self.data[:, :, rows, 1 + by :]


class CacheView:
    """One forward pass over a `KeyValueCache`: where it writes, what each query may see."""

    def __init__(self, cache: KeyValueCache, positions: Tensor, rows: Tensor | None):
        device = cache.data.device
        self.cache = cache
        self.used = int(positions.max()) + 2
        self.rows = None if rows is None else rows.to(device)
        self.positions = positions.to(device)
        write_rows = torch.arange(len(positions)) if rows is None else rows
        self._write = (write_rows[:, None].to(device), self.positions + 1)

    def masks(self, dtype: torch.dtype) -> Masks:
        """Additive masks (R, 1, L, S) for global and local layers."""
        key_positions = torch.arange(-1, self.used - 1, device=self.positions.device)
        distance = self.positions[:, None, :, None] - key_positions
        visible = (distance >= 0) & (key_positions >= 0)
        near = visible & (distance < self.cache.window_size)
        return {"global": additive_mask(visible, dtype), "local": additive_mask(near, dtype)}

    def update(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Writes (R, L, N, D) and returns all keys and values up to the last slot, (R, S, N, D)."""
        stored = []
        for data, new in zip(self.cache.data[layer], (keys, values), strict=True):
            data[self._write] = new.to(data.dtype)
            stored.append(data if self.rows is None else data[self.rows])
        return stored[0][:, : self.used], stored[1][:, : self.used]


def additive_mask(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where visible, the lowest finite number elsewhere, so that an empty row gives no NaN."""
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min)


def causal_masks(
    embeds: Tensor, window_size: int, token_mask: Tensor | None, documents: Tensor | None
) -> Masks:
    """Masks of whole sequences (B, L, H); None stands for plain causal attention.

    `token_mask` (B, L) hides tokens. Padding on the right needs no mask, as no earlier token
    sees it. With `documents` (B, L) a token sees its own document only, and `token_mask` is not
    used: padding is a document of its own.
    """
    length = embeds.shape[1]
    if token_mask is None and documents is None and length <= window_size:
        return {"global": None, "local": None}
    positions = torch.arange(length, device=embeds.device)
    distance = positions[:, None] - positions
    causal, near = distance >= 0, (distance >= 0) & (distance < window_size)
    if documents is not None:
        same = (documents[:, :, None] == documents[:, None, :])[:, None]
        masks = {"global": causal & same, "local": near & same}
        return {kind: additive_mask(visible, embeds.dtype) for kind, visible in masks.items()}
    if token_mask is None:
        return {"global": None, "local": additive_mask(near, embeds.dtype)}
    # A sum, not a conjunction: a padded token whose whole window is padding then weighs that window
    # and the earlier tokens alike, as in the published model, and no row is empty.
    keys = additive_mask(token_mask.bool()[:, None, None, :], embeds.dtype)
    return {
        "global": additive_mask(causal, embeds.dtype) + keys,
        "local": additive_mask(near, embeds.dtype) + keys,
    }


def places_in_documents(documents: Tensor) -> Tensor:
    """The place of each token (B, L) in its document: 0 where the next document begins."""
    places = torch.arange(documents.shape[1], device=documents.device)
    begins = F.pad(documents[:, 1:] != documents[:, :-1], (1, 0), value=True)
    return places - torch.where(begins, places, 0).cummax(dim=1).values


class SelfAttention(nn.Module):
    """Causal attention with unscaled logits, over a cache when there is one."""

    def __init__(self, config: JatConfig, layer: int):
        super().__init__()
        size = config.hidden_size
        self.layer = layer
        self.kind = config.attention_layers[layer]
        self.num_heads = config.num_heads
        self.k_proj = Linear(size, size, bias=False)
        self.v_proj = Linear(size, size, bias=False)
        self.q_proj = Linear(size, size, bias=False)
        self.out_proj = Linear(size, size)

    def forward(self, x_BLH: Tensor, masks: Masks, cache: CacheView | None) -> Tensor:
        """(B, L, H) → (B, L, H)."""
        heads = (*x_BLH.shape[:2], self.num_heads, -1)
        queries = self.q_proj(x_BLH).view(heads)
        keys, values = self.k_proj(x_BLH).view(heads), self.v_proj(x_BLH).view(heads)
        if cache is not None:
            keys, values = cache.update(self.layer, keys, values)
        mask = masks[self.kind]
        out_BNLD = F.scaled_dot_product_attention(
            queries.transpose(1, 2),
            keys.transpose(1, 2).to(queries.dtype),
            values.transpose(1, 2).to(queries.dtype),
            attn_mask=None if mask is None else mask.to(queries.dtype),
            is_causal=mask is None,
            scale=1.0,
        )
        return self.out_proj(out_BNLD.transpose(1, 2).reshape(x_BLH.shape))


class FeedForward(nn.Module):
    """Two layers with the tanh approximation of GELU."""

    def __init__(self, config: JatConfig):
        super().__init__()
        assert config.intermediate_size is not None
        self.c_fc = Linear(config.hidden_size, config.intermediate_size)
        self.c_proj = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x_BLH: Tensor) -> Tensor:
        """(B, L, H) → (B, L, H)."""
        return self.c_proj(F.gelu(self.c_fc(x_BLH), approximate="tanh"))


class Block(GradientCheckpointingLayer):
    """Attention, then feed-forward, each after a norm and added to its input."""

    def __init__(self, config: JatConfig, layer: int):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.attn = nn.ModuleDict({"attention": SelfAttention(config, layer)})
        self.ln_2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.mlp = FeedForward(config)

    def forward(self, x_BLH: Tensor, masks: Masks, cache: CacheView | None) -> Tensor:
        """(B, L, H) → (B, L, H)."""
        x_BLH = x_BLH + self.attn["attention"](self.ln_1(x_BLH), masks, cache)
        return x_BLH + self.mlp(self.ln_2(x_BLH))


class Transformer(nn.Module):
    """Positions, blocks and the final norm; `wte` is the token table that JAT shares."""

    def __init__(self, config: JatConfig):
        super().__init__()
        self.window_size = config.window_size
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.wpe = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.ln_f = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)

    def forward(
        self,
        embeds: Tensor,
        token_mask: Tensor | None = None,
        cache: CacheView | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, L, H) of token embeddings (B, L, H).

        Without a cache, whole sequences from position 0, of which `token_mask` (B, L) may hide
        tokens; `documents` (B, L) numbers the documents of a row that has several, each of which
        is read from position 0 and alone. With a cache, further tokens at the positions that the
        view holds.

        Raises:
            ValueError: a sequence longer than the model has positions.
        """
        length = embeds.shape[1]
        if length > self.wpe.num_embeddings:
            raise ValueError(
                f"a sequence of {length} tokens exceeds max_position_embeddings="
                f"{self.wpe.num_embeddings}: cut it (a timestep takes two)"
            )
        if cache is None:
            masks = causal_masks(embeds, self.window_size, token_mask, documents)
            hidden = embeds + self._positions(length, documents)
        else:
            masks = cache.masks(embeds.dtype)
            hidden = embeds + self.wpe(cache.positions.clamp(min=0))
        for block in self.h:
            hidden = block(hidden, masks, cache)
        return self.ln_f(hidden)

    def _positions(self, length: int, documents: Tensor | None) -> Tensor:
        """Position embeddings (L, H) or, by document, (B, L, H)."""
        if documents is None:
            return self.wpe.weight[:length]
        return self.wpe(places_in_documents(documents))
