"""Tiny nets with attention that can be cut."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from oba.models.attention import open_attention

CLASSES = 5


def vit() -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    sizes = {"img_size": 8, "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 2}
    return open_attention(VisionTransformer(**sizes, num_classes=CLASSES))


def vit_of_torchvision() -> nn.Module:
    from torchvision.models.vision_transformer import VisionTransformer

    model = VisionTransformer(8, 4, num_layers=2, num_heads=3, hidden_dim=12, mlp_dim=10, num_classes=CLASSES)
    nn.init.normal_(model.heads.head.weight)
    return open_attention(model)


class Attended(nn.Module):
    """One attention module of timm between a stem and a head."""

    def __init__(self, attention: nn.Module, *arguments: Tensor) -> None:
        super().__init__()
        self.stem, self.attention, self.head = nn.Conv2d(3, 12, 4, 4), attention, nn.Linear(12, CLASSES)
        self.arguments = arguments

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).mT
        return self.head(torch.relu(self.attention(tokens, *(a.to(x) for a in self.arguments))).mean(1))


def rotary(*, scale_norm: bool = False) -> nn.Module:
    """Rotated queries that share keys."""
    from timm.layers.attention import AttentionRope

    norms = {"qk_norm": True, "scale_norm": scale_norm, "norm_layer": nn.LayerNorm}
    attention = AttentionRope(12, 6, num_kv_heads=3, qkv_fused=False, num_prefix_tokens=1, gated=True, **norms)
    return open_attention(Attended(attention, torch.randn(3, 4)))


def normed() -> nn.Module:
    from timm.layers.attention import Attention

    return open_attention(Attended(Attention(12, 3, qk_norm=True, norm_layer=nn.LayerNorm, gated=True)))


def windowed() -> nn.Module:
    from timm.models.swin_transformer import WindowAttention

    return open_attention(Attended(WindowAttention(12, 3, window_size=2), torch.randn(1, 4, 4)))
