"""Attention whose heads and dimensions can be cut one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oba.errors import ModelError
from oba.structures import HEAD, QUERY_KEY, VALUE


class Product(nn.Module):
    """Scaled dot-product attention as a module, so that its inputs can be seen and masked."""

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float, is_causal: bool, scale: float
    ) -> Tensor:
        """Return what :func:`torch.nn.functional.scaled_dot_product_attention` does."""
        return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal, scale=scale)


class Attention(nn.Module):
    """Multi-head attention whose heads, query-key dimensions and value dimensions can be cut one by one.

    Queries, keys and values come from one linear layer ``qkv`` or from three, ``q_proj``, ``k_proj`` and ``v_proj``:
    rows head by head. Several heads may share a key and a value (grouped queries).

    Attributes:
        num_heads: Heads of the queries.
        num_kv_heads: Heads of keys and values, a divisor of ``num_heads``.
        head_dim: Dimensions of a query and of a key.
        value_dim: Dimensions of a value.
        scale: What products of queries and keys are multiplied by; that of the dense net, whatever is cut.
        rotated: Whether queries and keys are rotated by position in pairs of dimensions, which cannot be parted.
    """

    rotated = False

    qkv: nn.Linear | None
    q_proj: nn.Linear
    k_proj: nn.Linear
    v_proj: nn.Linear
    gate: nn.Linear | None

    def __init__(self, source: Any, *, num_heads: int, head_dim: int, num_kv_heads: int | None = None) -> None:
        """Take over the parts of another module.

        Args:
            source: What has ``proj``, and ``qkv`` or all of ``q_proj``, ``k_proj`` and ``v_proj``; perhaps also
                ``q_norm`` and ``k_norm`` over a head's dimensions, ``norm`` and ``gate`` over all heads' outputs,
                ``attn_drop`` and ``proj_drop``.
            num_heads: Heads of the queries.
            head_dim: Dimensions of queries, keys and values alike.
            num_kv_heads: Heads of keys and values; ``num_heads`` if not given.
        """
        super().__init__()
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads or num_heads
        self.head_dim = head_dim
        self.value_dim = head_dim
        self.scale = head_dim**-0.5
        for name in ("qkv", "q_proj", "k_proj", "v_proj", "gate"):
            setattr(self, name, getattr(source, name, None))
        self.q_norm = getattr(source, "q_norm", nn.Identity())
        self.k_norm = getattr(source, "k_norm", nn.Identity())
        self.product = Product()
        self.attn_drop = getattr(source, "attn_drop", nn.Identity())
        self.norm = getattr(source, "norm", nn.Identity())
        self.proj: nn.Linear = source.proj
        self.proj_drop = getattr(source, "proj_drop", nn.Identity())
        self.train(source.training)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        rotate: Callable[[Tensor], Tensor] = lambda heads: heads,
    ) -> Tensor:
        """Attend from some tokens to others.

        Args:
            query: Tokens, shape (N, tokens, channels).
            key: Tokens, shape (N, other tokens, channels).
            value: Tokens, shape (N, other tokens, channels).
            attn_mask: Added to the products of queries and keys, or boolean: True takes part; broadcast to
                (N, heads, tokens, other tokens).
            is_causal: Whether tokens see only those before them.
            rotate: What turns queries and keys, shape (N, heads, tokens, dimensions), by position.

        Returns:
            Tokens, shape (N, tokens, output channels).
        """
        q, k, v = self.heads(query, key, value, rotate)
        dropout = self.attn_drop.p if isinstance(self.attn_drop, nn.Dropout) and self.training else 0.0
        x = self.product(q, k, v, attn_mask, dropout, is_causal, self.scale)
        x = self.norm(x.transpose(1, 2).flatten(2))
        if self.gate is not None:
            x = x * self.gate(query).sigmoid()
        return self.proj_drop(self.proj(x))

    def heads(
        self, query: Tensor, key: Tensor, value: Tensor, rotate: Callable[[Tensor], Tensor] = lambda heads: heads
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values.

        Args:
            query: As in :meth:`attend`.
            key: As in :meth:`attend`.
            value: As in :meth:`attend`.
            rotate: As in :meth:`attend`.

        Returns:
            Each of shape (N, heads, tokens, dimensions).
        """
        if self.qkv is not None:
            q, k, v = self.qkv(query).split([rows for _, rows in self.projections().values()], -1)
        else:
            q, k, v = self.q_proj(query), self.k_proj(key), self.v_proj(value)
        q = q.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
        k = k.unflatten(-1, (self.num_kv_heads, self.head_dim)).transpose(1, 2)
        v = v.unflatten(-1, (self.num_kv_heads, self.value_dim)).transpose(1, 2)
        q, k = (rotate(norm(heads)).type_as(v) for norm, heads in ((self.q_norm, q), (self.k_norm, k)))
        if self.num_kv_heads < self.num_heads:
            k, v = (heads.repeat_interleave(self.num_heads // self.num_kv_heads, 1) for heads in (k, v))
        return q, k, v

    def projections(self) -> dict[str, tuple[str, int]]:
        """Return where queries, keys and values are made.

        Returns:
            By ``"q"``, ``"k"`` and ``"v"`` the name of a linear layer and the number of its rows that make them; one
            layer's rows follow in that order.
        """
        rows = {
            "q": self.num_heads * self.head_dim,
            "k": self.num_kv_heads * self.head_dim,
            "v": self.num_kv_heads * self.value_dim,
        }
        return {part: ("qkv" if self.qkv is not None else f"{part}_proj", count) for part, count in rows.items()}

    def widths(self) -> dict[str, int]:
        """Return what can be cut.

        Returns:
            Number of heads of keys and values, each with the queries' heads that share it, by ``"head"``; of
            dimensions by ``"query-key"`` and ``"value"``.
        """
        return {HEAD: self.num_kv_heads, QUERY_KEY: self.head_dim, VALUE: self.value_dim}

    def cut(self, axis: str, kept: Tensor) -> None:
        """Set the sizes after the layers' rows and columns have been cut.

        Args:
            axis: One of :meth:`widths`.
            kept: What is left of it, increasing.
        """
        match axis:
            case "head":
                self.num_heads = self.num_heads // self.num_kv_heads * len(kept)
                self.num_kv_heads = len(kept)
            case "query-key":
                self.head_dim = len(kept)
            case "value":
                self.value_dim = len(kept)

    @torch.no_grad()
    def scale_queries(self, factor: Tensor) -> None:
        """Multiply the dimensions of all queries.

        Args:
            factor: Shape (dimensions,).

        Raises:
            ModelError: If queries are normed without a scale of their own.
        """
        layer, rows = self.q_norm, len(factor)
        if isinstance(layer, nn.Identity):
            layer, rows = self.qkv or self.q_proj, self.num_heads * self.head_dim
        weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
        if weight is None:
            raise ModelError(f"queries are normed by a {type(layer).__name__}, which has no scale to multiply")
        of_rows = factor.to(weight).repeat(rows // len(factor))
        weight[:rows] *= of_rows.view(-1, *[1] * (weight.dim() - 1))
        if bias is not None:
            bias[:rows] *= of_rows

    def translate(self, tensors: dict[str, Any], prefix: str) -> None:
        """Give the tensors of a state dict of the module that this one stands for the names that they have here.

        Args:
            tensors: A state dict, changed in place.
            prefix: What the names of this module's tensors begin with.
        """

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        self.translate(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        """Return the sizes, for ``print(model)``."""
        return f"heads={self.num_heads}, query-key={self.head_dim}, value={self.value_dim}"
