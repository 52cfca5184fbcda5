"""From the attention modules of libraries to those that can be cut."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from torch import nn

from oba.models.attention.kinds import EvaAttention, MultiheadAttention, RotaryAttention, SelfAttention, WindowAttention
from oba.models.attention.module import Attention


def open_attention(model: nn.Module) -> nn.Module:
    """Replace the attention modules of a net that are known by ones that compute the same and can be cut.

    Known are PyTorch's ``nn.MultiheadAttention`` (without ``add_bias_kv`` and ``add_zero_attn``) and timm's
    ``Attention`` (ViT, DeiT), ``AttentionRope``, ``EvaAttention`` and Swin's ``WindowAttention``; subclasses are not,
    for they may compute something else. Weights stay the same objects where they stay whole. State dicts of the net as
    it was can still be loaded.

    Args:
        model: The net, changed in place.

    Returns:
        The net; a new module if it is itself an attention module.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            opened = _opened(child)
            if opened is not None:
                setattr(parent, name, opened)
    return _opened(model) or model


def _opened(module: Any) -> Attention | None:
    """Return what takes a module's place, None where it can stay."""
    kind = type(module)
    if kind is nn.MultiheadAttention:
        return None if module.bias_k is not None or module.add_zero_attn else _multihead(module)
    match f"{kind.__module__}.{kind.__qualname__}":
        case "timm.layers.attention.Attention":
            return SelfAttention(module, num_heads=module.num_heads, head_dim=module.head_dim)
        case "timm.layers.attention.AttentionRope":
            sizes = {"num_heads": module.num_heads, "num_kv_heads": module.num_kv_heads, "head_dim": module.head_dim}
            return RotaryAttention(module, **sizes)
        case "timm.models.eva.EvaAttention":
            sizes = {"num_heads": module.num_heads, "head_dim": module.head_dim}
            return RotaryAttention(module, **sizes) if module.q_bias is None else _with_biases(module, sizes)
        case "timm.models.swin_transformer.WindowAttention":
            head_dim = module.proj.in_features // module.num_heads
            return WindowAttention(module, num_heads=module.num_heads, head_dim=head_dim)
    return None


def _multihead(module: nn.MultiheadAttention) -> MultiheadAttention:
    """Return PyTorch's module with its projections as layers."""
    weights: list[Any] = [module.q_proj_weight, module.k_proj_weight, module.v_proj_weight]
    if module.in_proj_weight is not None:
        weights = _parts(module.in_proj_weight)
    biases = [None] * 3 if module.in_proj_bias is None else _parts(module.in_proj_bias)
    source = SimpleNamespace(
        **{f"{part}_proj": _linear(w, b) for part, w, b in zip("qkv", weights, biases, strict=True)},
        proj=_linear(module.out_proj.weight, module.out_proj.bias),
        attn_drop=nn.Dropout(module.dropout),
        training=module.training,
    )
    sizes = {"num_heads": module.num_heads, "head_dim": module.head_dim}
    return MultiheadAttention(source, batch_first=module.batch_first, **sizes)


def _with_biases(module: Any, sizes: dict[str, int]) -> EvaAttention:
    """Return EVA's module with its fused projection in three layers, of which that of the keys has no bias."""
    parts = zip("qkv", _parts(module.qkv.weight), (module.q_bias, None, module.v_bias), strict=True)
    own = {name: child for name, child in module.named_children() if name != "qkv"}
    layers = {f"{part}_proj": _linear(weight, bias) for part, weight, bias in parts}
    rest = {name: getattr(module, name) for name in ("training", "num_prefix_tokens", "rotate_half")}
    return EvaAttention(SimpleNamespace(**own, **layers, **rest), **sizes)


def _parts(packed: nn.Parameter) -> list[nn.Parameter]:
    """Part the rows of queries, keys and values."""
    return [nn.Parameter(part.detach().clone(), packed.requires_grad) for part in packed.chunk(3)]


def _linear(weight: Any, bias: Any) -> nn.Linear:
    """Return a linear layer of given parameters, without drawing others first."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = weight
    if bias is not None:
        layer.bias = bias
    return layer
