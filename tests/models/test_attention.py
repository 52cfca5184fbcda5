"""Attention that can be cut computes what the libraries' own modules do."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close

from oba.models import build_model
from oba.models.attention import Attention, open_attention
from oba.models.weights import load_weights

TOKENS, WIDTH = 5, 12


def timm_attention(**options) -> nn.Module:
    from timm.layers.attention import Attention as Source

    return Source(WIDTH, num_heads=3, **options)


def eva(**options) -> nn.Module:
    from timm.models.eva import EvaAttention as Source

    module = Source(WIDTH, num_heads=3, norm_layer=nn.LayerNorm, **options)
    for name in ("q_bias", "v_bias"):
        if getattr(module, name) is not None:
            nn.init.normal_(getattr(module, name))
    return module


def rope(**options) -> nn.Module:
    from timm.layers.attention import AttentionRope as Source

    return Source(WIDTH, norm_layer=nn.LayerNorm, **options)


def swin() -> nn.Module:
    from timm.models.swin_transformer import WindowAttention as Source

    return Source(WIDTH, num_heads=3, window_size=2)


def parted(build, **options) -> nn.Module:
    torch.manual_seed(0)
    return build(**options).double()


TIMM = {
    "plain": (timm_attention, {}),
    "biases": (timm_attention, {"qkv_bias": True, "proj_bias": False}),
    "norms": (timm_attention, {"qk_norm": True, "scale_norm": True, "norm_layer": nn.LayerNorm}),
    "gate": (timm_attention, {"gated": True}),
    "wide": (timm_attention, {"attn_head_dim": 6}),
    "other width": (timm_attention, {"dim_out": 7}),
}
ROTARY = {
    "eva": (eva, {"scale_norm": False}),
    "eva norms": (eva, {"qk_norm": True, "gated": True}),
    "eva parted": (eva, {"qkv_fused": False}),
    "eva no bias": (eva, {"qkv_bias": False}),
    "eva half": (eva, {"rotate_half": True}),
    "rope": (rope, {"num_heads": 3, "qkv_bias": True}),
    "rope shared keys": (rope, {"num_heads": 6, "num_kv_heads": 2, "qkv_fused": False}),
}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", TIMM)
def test_like_timm(name, fused):
    build, options = TIMM[name]
    source = parted(build, **options)
    source.fused_attn = fused
    opened = open_attention(copy.deepcopy(source))
    assert isinstance(opened, Attention)
    x = torch.randn(2, TOKENS, WIDTH, dtype=torch.float64)
    mask = torch.rand(TOKENS, TOKENS) > 0.3
    mask.fill_diagonal_(True)
    for arguments in (
        {},
        {"attn_mask": mask},
        {"attn_mask": torch.randn(TOKENS, TOKENS).double()},
        {"is_causal": True},
    ):
        assert_close(opened(x, **arguments), source(x, **arguments), rtol=1e-12, atol=1e-12)
    assert opened.state_dict().keys() == source.state_dict().keys()


@pytest.mark.parametrize("name", ROTARY)
def test_like_timm_with_rotation(name):
    build, options = ROTARY[name]
    source = parted(build, **options)
    opened = open_attention(copy.deepcopy(source))
    assert opened.rotated
    x = torch.randn(2, TOKENS, WIDTH, dtype=torch.float64)
    angles = torch.randn(TOKENS - source.num_prefix_tokens, 2 * source.head_dim, dtype=torch.float64)
    for arguments in ({}, {"rope": angles}, {"rope": angles, "is_causal": True}):
        assert_close(opened(x, **arguments), source(x, **arguments), rtol=1e-12, atol=1e-12)


def test_keys_without_a_bias_stay_so():
    """A bias of keys that are rotated would be trained to something."""
    opened = open_attention(parted(eva, scale_norm=False))
    assert opened.k_proj.bias is None
    assert opened.q_proj.bias is not None


@pytest.mark.parametrize("windows", [None, 2])
def test_like_swin(windows):
    source = parted(swin)
    opened = open_attention(copy.deepcopy(source))
    x = torch.randn(6, 4, WIDTH, dtype=torch.float64)
    mask = None if windows is None else torch.randn(windows, 4, 4).double()
    for fused in (True, False):
        source.fused_attn = fused
        assert_close(opened(x, mask=mask), source(x, mask=mask), rtol=1e-12, atol=1e-12)
    assert opened.state_dict().keys() == source.state_dict().keys()


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 7, "vdim": 9}], ids=str)
def test_like_pytorch(options, batch_first):
    torch.manual_seed(0)
    source = nn.MultiheadAttention(WIDTH, 3, batch_first=batch_first, **options).double()
    for bias in (source.in_proj_bias, source.out_proj.bias):
        if bias is not None:
            nn.init.normal_(bias)
    opened = open_attention(copy.deepcopy(source))
    tokens = [torch.randn(2, n, d).double() for n, d in ((5, WIDTH), (7, source.kdim), (7, source.vdim))]
    padding = torch.tensor([[False] * 7, [False] * 4 + [True] * 3])
    mask = torch.randn(5, 7).double()
    for query, key, value in (tokens, [x[0] for x in tokens]):
        batched = query.dim() == 3
        if batched and not batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        for extra in (
            {},
            {"attn_mask": mask, "average_attn_weights": False},
            {"key_padding_mask": padding if batched else padding[1]},
            {"attn_mask": mask > 1, "need_weights": False},
            {"attn_mask": torch.randn(6 if batched else 3, 5, 7).double()},
        ):
            expected, found = source(query, key, value, **extra), opened(query, key, value, **extra)
            assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_encoder_layers_of_pytorch_run_in_both_modes():
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, dropout=0.0, batch_first=True).double()
    net = nn.TransformerEncoder(layer, 2)
    x = torch.randn(2, TOKENS, WIDTH, dtype=torch.float64)
    opened = open_attention(copy.deepcopy(net))
    for mode in (True, False):
        with torch.no_grad():
            assert_close(opened.train(mode)(x), net.train(mode)(x), rtol=1e-12, atol=1e-12)


def test_weights_of_the_source_can_be_loaded():
    torch.manual_seed(0)
    for source, other in (
        (nn.MultiheadAttention(WIDTH, 3), nn.MultiheadAttention(WIDTH, 3)),
        (nn.MultiheadAttention(WIDTH, 3, kdim=4), nn.MultiheadAttention(WIDTH, 3, kdim=4)),
        (parted(eva), eva()),
    ):
        opened, expected = open_attention(other), open_attention(copy.deepcopy(source))
        opened.load_state_dict(source.state_dict())
        for name, tensor in expected.state_dict().items():
            assert torch.equal(opened.state_dict()[name].double(), tensor.double()), name
        opened.load_state_dict(opened.state_dict())


def test_a_file_of_the_source_can_be_loaded(tmp_path):
    from torchvision.models.vision_transformer import VisionTransformer

    def net():
        return VisionTransformer(8, 4, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=12, num_classes=3)

    torch.manual_seed(0)
    source, model = net(), open_attention(net())
    nn.init.normal_(source.heads.head.weight)
    torch.save(source.state_dict(), tmp_path / "vit.pt")
    load_weights(model, tmp_path / "vit.pt")
    images = torch.randn(2, 3, 8, 8)
    assert_close(model.eval()(images), source.eval()(images))


def test_what_is_not_known_stays():
    class Own(nn.MultiheadAttention):
        """May compute anything."""

    for module in (
        Own(4, 2),
        nn.MultiheadAttention(4, 2, add_bias_kv=True),
        nn.MultiheadAttention(4, 2, add_zero_attn=True),
    ):
        assert open_attention(module) is module


def test_opening_draws_nothing_and_keeps_modes():
    net = nn.Sequential(nn.MultiheadAttention(4, 2), timm_attention()).eval()
    net[1].qkv.weight.requires_grad_(False)
    weight, state = net[1].qkv.weight, torch.get_rng_state()
    opened = open_attention(net)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in opened.modules())
    assert opened[1].qkv.weight is weight
    assert not weight.requires_grad


def test_kernels_agree():
    attention = open_attention(timm_attention()).eval()
    x = torch.randn(2, TOKENS, WIDTH)
    with sdpa_kernel(SDPBackend.MATH):
        expected = attention(x)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        assert_close(attention(x), expected)


def test_dropout_acts_while_training_only():
    attention = open_attention(timm_attention(attn_drop=0.5))
    x = torch.randn(2, TOKENS, WIDTH)
    assert not torch.equal(attention(x), attention(x))
    attention.eval()
    assert torch.equal(attention(x), attention(x))


def test_built_nets_are_open():
    model = build_model("timm/vit_tiny_patch16_224", num_classes=3, input_size=(3, 32, 32))
    assert sum(isinstance(module, Attention) for module in model.modules()) == 12
