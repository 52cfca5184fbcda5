"""The attention modules of PyTorch and timm as modules that can be cut."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from oba.models.attention.module import Attention
from oba.structures import HEAD


class SelfAttention(Attention):
    """Attention of tokens to each other, as timm's ``Attention``."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Attend.

        Args:
            x: Tokens, shape (N, tokens, channels).
            attn_mask: As in :meth:`Attention.attend`.
            is_causal: As in :meth:`Attention.attend`.

        Returns:
            Tokens, shape (N, tokens, output channels).
        """
        return self.attend(x, x, x, attn_mask, is_causal)


class RotaryAttention(Attention):
    """Attention whose queries and keys are rotated by position, as timm's ``AttentionRope`` and ``EvaAttention``."""

    rotated = True

    def __init__(self, source: Any, **sizes: int) -> None:
        """Take over the parts of a module of timm."""
        super().__init__(source, **sizes)
        self.num_prefix_tokens: int = source.num_prefix_tokens
        self.rotate_half: bool = source.rotate_half

    def forward(
        self,
        x: Tensor,
        rope: Tensor | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Attend.

        Args:
            x: Tokens, shape (N, tokens, channels).
            rope: Sines and cosines for the tokens behind the prefix, shape (..., tokens, 2 · dimensions); without
                them nothing is rotated.
            attn_mask: As in :meth:`Attention.attend`.
            is_causal: As in :meth:`Attention.attend`.

        Returns:
            Tokens, shape (N, tokens, output channels).
        """

        def rotate(heads: Tensor) -> Tensor:
            if rope is None:
                return heads
            start = self.num_prefix_tokens
            rest = _rotated(heads[:, :, start:], rope, half=self.rotate_half)
            return torch.cat([heads[:, :, :start], rest.type_as(heads)], 2)

        return self.attend(x, x, x, attn_mask, is_causal, rotate)


class WindowAttention(Attention):
    """Attention within windows, with a learnt bias for each head and relative position, as in Swin."""

    def __init__(self, source: Any, **sizes: int) -> None:
        """Take over the parts of timm's ``WindowAttention``."""
        super().__init__(source, **sizes)
        self.relative_position_bias_table: nn.Parameter = source.relative_position_bias_table
        self.relative_position_index: Tensor
        self.register_buffer("relative_position_index", source.relative_position_index, persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: Tokens, shape (images · windows, tokens, channels).
            mask: Added to the products of queries and keys, shape (windows, tokens, tokens).

        Returns:
            Tokens, shape (images · windows, tokens, channels).
        """
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        if mask is not None:
            images = x.shape[0] // mask.shape[0]
            bias = (bias + mask[:, None]).repeat(images, 1, 1, 1)
        return self.attend(x, x, x, bias if mask is not None else bias[None])

    def cut(self, axis: str, kept: Tensor) -> None:
        """Cut, see :meth:`Attention.cut`, the heads' biases too."""
        super().cut(axis, kept)
        if axis == HEAD:
            table = self.relative_position_bias_table
            part = table.detach().index_select(1, kept.to(table.device))
            self.relative_position_bias_table = nn.Parameter(part, requires_grad=table.requires_grad)


class MultiheadAttention(Attention):
    """Attention with the interface of PyTorch's ``nn.MultiheadAttention``.

    Attributes:
        batch_first: Whether the first dimension of tokens is the batch, not the second.
        in_proj_bias: None, which keeps ``nn.TransformerEncoderLayer`` from running a kernel of its own instead.
    """

    in_proj_bias = None
    _qkv_same_embed_dim = True

    def __init__(self, source: Any, *, batch_first: bool, **sizes: int) -> None:
        """Take over parts that have been given timm's names."""
        super().__init__(source, **sizes)
        self.batch_first = batch_first

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend as ``nn.MultiheadAttention`` does, whose documentation holds for all arguments."""
        batched = query.dim() == 3
        if not batched:
            query, key, value = (x[None] for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        mask = self._mask(attn_mask, key_padding_mask, query)
        out = self.attend(query, key, value, mask)
        weights = self._weights(query, key, value, mask) if need_weights else None
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            return out[0], None if weights is None else weights[0]
        return out if self.batch_first else out.transpose(0, 1), weights

    def _mask(self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, query: Tensor) -> Tensor | None:
        """Join both masks, in which True means not to attend, to one that is added."""
        parts = []
        if attn_mask is not None:
            attn_mask = _added(attn_mask, query)
            parts.append(attn_mask if attn_mask.dim() == 2 else attn_mask.unflatten(0, (len(query), self.num_heads)))
        if key_padding_mask is not None:
            parts.append(_added(key_padding_mask, query)[:, None, None])
        return sum(parts[1:], parts[0]) if parts else None

    def _weights(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Return how much each query takes of each value, shape (N, heads, tokens, tokens)."""
        q, k, _ = self.heads(query, key, value)
        logits = q * self.scale @ k.mT
        return (logits if mask is None else logits + mask).softmax(-1)

    def translate(self, tensors: dict[str, Any], prefix: str) -> None:
        """Rename, see :meth:`Attention.translate`."""
        for kind in ("weight", "bias"):
            if (packed := tensors.pop(f"{prefix}in_proj_{kind}", None)) is not None:
                for part, tensor in zip("qkv", packed.chunk(3), strict=True):
                    tensors[f"{prefix}{part}_proj.{kind}"] = tensor
            if (out := tensors.pop(f"{prefix}out_proj.{kind}", None)) is not None:
                tensors[f"{prefix}proj.{kind}"] = out
        for part in "qkv":
            if (weight := tensors.pop(f"{prefix}{part}_proj_weight", None)) is not None:
                tensors[f"{prefix}{part}_proj.weight"] = weight


class EvaAttention(RotaryAttention):
    """A rotary attention whose fused projection had biases of queries and values, and none of keys, beside it."""

    def translate(self, tensors: dict[str, Any], prefix: str) -> None:
        """Rename, see :meth:`Attention.translate`."""
        if (packed := tensors.pop(f"{prefix}qkv.weight", None)) is not None:
            for part, tensor in zip("qkv", packed.chunk(3), strict=True):
                tensors[f"{prefix}{part}_proj.weight"] = tensor
        for part in "qv":
            if (bias := tensors.pop(f"{prefix}{part}_bias", None)) is not None:
                tensors[f"{prefix}{part}_proj.bias"] = bias


def _rotated(heads: Tensor, rope: Tensor, *, half: bool) -> Tensor:
    """Turn pairs of dimensions: neighbours, or one of the first half and one of the second."""
    sin, cos = rope.chunk(2, -1)
    if half:
        first, second = heads.chunk(2, -1)
        turned = torch.cat([-second, first], -1)
    else:
        turned = torch.stack([-heads[..., 1::2], heads[..., ::2]], -1).flatten(-2)
    return heads * cos + turned * sin


def _added(mask: Tensor, query: Tensor) -> Tensor:
    """Return a mask that is added, where a boolean one says True for what is not attended to."""
    if mask.dtype != torch.bool:
        return mask
    return query.new_zeros(mask.shape).masked_fill_(mask, -torch.inf)
