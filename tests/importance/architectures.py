"""Tiny nets that are no mere sequences of layers: blocks, gates, attention, shared and computed parameters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 3


class Residual(nn.Module):
    """Two-convolution block with batch norm, an in-place sum and an in-place activation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.conv1 = nn.Conv2d(4, 5, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(5)
        self.conv2 = nn.Conv2d(5, 4, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.stem(x)))
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        y += x
        return self.head(self.relu(y).mean((2, 3)))


class ComputedNorm(nn.Module):
    """A frozen norm whose scale is made of a parameter and of activations, and whose shift is a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(2, 4)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.norm.weight.exp() + self.gate(x.mean((2, 3))).mean(0)
        y = F.batch_norm(self.stem(x), self.norm.running_mean, self.norm.running_var, scale, self.norm.bias)
        return self.head(F.gelu(y).mean((2, 3)))


class PreActivation(nn.Module):
    """Residual block without a norm after the convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.conv(F.relu(self.norm(x)))
        return self.head(F.adaptive_avg_pool2d(F.relu(x), 1).flatten(1))


class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 3, 3, padding=1)
        self.b = nn.Conv2d(2, 2, 1)
        self.c = nn.Conv2d(5, 4, 3)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([F.relu(self.a(x)), torch.sigmoid(self.b(x))], 1)
        return self.head(F.max_pool2d(self.c(x), 2).flatten(2).mean(2))


class Swish(nn.Module):
    """An activation written as a product; still one frozen unit."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


class SqueezeExcite(nn.Module):
    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.squeeze = nn.Conv2d(4, 2, 1)
        self.excite = nn.Conv2d(2, 4, 1)
        self.conv = nn.Conv2d(4, 3, 3)
        self.head = nn.Linear(3, CLASSES)
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.stem(x))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        if self.inplace:
            x = x + 0
            x *= gate
        else:
            x = x * gate
        return self.head(F.relu(self.conv(x)).mean((2, 3)))


class MultiHead(nn.Module):
    """``nn.MultiheadAttention`` between two Linears; ``kdim`` makes its projections separate."""

    def __init__(self, separate: bool = False, weights: bool = False) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 4)
        sizes = {"kdim": 3, "vdim": 3} if separate else {}
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **sizes)
        self.head = nn.Linear(4, CLASSES)
        self.separate, self.weights = separate, weights

    def forward(self, x: Tensor) -> Tensor:
        y = self.embed(x)
        source = x if self.separate else y
        y = y + self.attention(y, source, source, need_weights=self.weights)[0]
        return self.head(y.mean(1))


class Vit(nn.Module):
    """A patch embedding, a position embedding and a timm ViT block."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        from timm.models.vision_transformer import Block

        self.patch = nn.Conv2d(2, 4, 3, stride=3)
        self.position = nn.Parameter(torch.randn(1, 4, 4))
        self.block = Block(4, 2, mlp_ratio=2, qkv_bias=True, init_values=0.7)
        self.block.attn.fused_attn = fused
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.block(x)).mean(1))


class Shared(nn.Module):
    """One layer used twice, and one weight tied between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.second.weight
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(F.relu(self.first(x))))
        return self.head(F.relu(self.tied(torch.tanh(self.second(x)))))


class Functional(nn.Module):
    """Own parameters handed to functions, sliced and whole; products of activations by several functions."""

    def __init__(self) -> None:
        super().__init__()
        self.packed = nn.Parameter(torch.randn(8, 4) * 0.5)
        self.shift = nn.Parameter(torch.randn(8) * 0.5)
        self.kernel = nn.Parameter(torch.randn(4, 1, 3) * 0.5)
        self.scale = nn.Parameter(torch.rand(4) + 0.5)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        a = F.linear(x, self.packed[:4], self.shift[:4])
        b = F.relu(F.linear(a, self.packed[4:], bias=self.shift[4:]))
        c = torch.einsum("btc,bsc->bts", a, b)
        d = torch.baddbmm(a, c, b, alpha=0.5, beta=2)
        e = F.conv1d(d.mT, self.kernel, padding=1, groups=4).mT * self.scale
        f = torch.addcmul(a, e, b, value=-0.3)
        g = torch.einsum("btc,btc,bc->btc", f, torch.sigmoid(a), b.mean(1))
        return self.head((g + torch.multiply(f, f)).mean(1))


class Standardized(nn.Conv2d):
    """A convolution whose weight is standardized before use."""

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, (self.weight - mean) / self.weight.std((1, 2, 3), keepdim=True), self.bias)


class Detached(nn.Module):
    """A gate that no gradient flows through."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.inner = nn.Linear(4, 4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x))
        with torch.no_grad():
            gate = torch.sigmoid(self.inner(x)) * x
        return self.head(torch.relu(self.inner(x)) * gate)
