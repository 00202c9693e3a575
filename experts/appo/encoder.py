"""The network's encoder in bfloat16, where the processor computes in it.

Almost all of Atari's training time goes into the convolutions. In bfloat16 they take less than half
of it on a processor with such instructions. Weights, normalisation, heads and losses stay float32,
and sampling goes through the same encoder, so PPO compares like with like.
"""

from typing import Any

import torch
from sample_factory.model.encoder import MultiInputEncoder

from pipeline.stage import log


class MixedEncoder(MultiInputEncoder):
    """Sample Factory's encoder under autocast; float32 goes in and comes out."""

    def forward(self, obs_dict: dict[str, torch.Tensor]) -> torch.Tensor:
        """float32 ``(n, encoder size)``."""
        device = next(self.parameters()).device.type
        with torch.autocast(device, torch.bfloat16):
            return super().forward(obs_dict).float()


def make_encoder(cfg: Any, obs_space: Any) -> MultiInputEncoder:
    """Sample Factory's encoder factory, by the recipe's ``encoder_precision``."""
    mixed = cfg.encoder_precision == "bfloat16"
    if mixed and cfg.device == "cpu" and not computes_bfloat16():
        log.info("this processor has no bfloat16 instructions: training in float32")
        mixed = False
    return (MixedEncoder if mixed else MultiInputEncoder)(cfg, obs_space)


def computes_bfloat16() -> bool:
    """Whether the CPU has instructions for it; emulation would be slower than float32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
