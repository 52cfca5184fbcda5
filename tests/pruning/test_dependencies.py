"""Structures: which there are, and what ties them."""

from __future__ import annotations

import copy

import pytest
import torch
from attended import rotary
from torch import nn

from oba.pruning.dependencies import find_groups
from oba.pruning.plan import Plan
from oba.pruning.replay import apply_plan, removal_plan
from oba.structures import Slice, groups_from_json, groups_to_json

SIZE = (3, 8, 8)


def _slice(group, layer, axis):
    (found,) = [s for s in group.slices if (s.layer, s.axis) == (layer, axis)]
    return found.indices


def test_flatten_gives_each_channel_its_pixels(zoo):
    case = zoo("plain-flatten")
    assert [g.name for g in case.groups] == ["0", "2", "5"]
    assert _slice(case.groups[1], "2", "out") == tuple((i,) for i in range(8))
    assert _slice(case.groups[1], "5", "in") == tuple(tuple(range(4 * i, 4 * i + 4)) for i in range(8))


def test_norm_is_a_feature_slice(zoo):
    group = zoo("batch-norm").groups[0]
    assert [(s.layer, s.axis) for s in group.slices] == [("0", "out"), ("1", "feature"), ("4", "in")]


def test_concat_offsets(zoo):
    groups = {g.name: g for g in zoo("dense").groups}
    assert set(groups) == {"0", "3.body.0", "4.body.0", "5"}
    assert _slice(groups["0"], "5", "in") == tuple((i,) for i in range(4))
    assert _slice(groups["3.body.0"], "5", "in") == tuple((4 + i,) for i in range(5))
    assert _slice(groups["4.body.0"], "5", "in") == tuple((9 + i,) for i in range(3))


def test_streams_only_when_asked_for(zoo):
    inner = [g.name for g in zoo("residual").groups]
    everything = {g.name: g for g in zoo("residual-streams").groups}
    assert inner == ["3.body.0", "4.body.0"]
    assert set(everything) == {"0", "3.body.0", "4.body.0", "4.body.3"}
    assert {s.layer for s in everything["0"].on_axis("out")} == {"0", "3.body.3"}
    assert {s.layer for s in everything["4.body.3"].on_axis("out")} == {"4.body.3", "4.shortcut"}


def test_depthwise_is_no_producer_of_a_stream(zoo):
    (group,) = zoo("inverted-residual").groups
    assert {(s.layer, s.axis) for s in group.slices if s.layer == "3.body.3"} == {
        ("3.body.3", "out"),
        ("3.body.3", "in"),
    }


def test_gate_is_no_stream(zoo):
    groups = {g.name: g for g in zoo("squeeze-excite").groups}
    assert set(groups) == {"0", "3.reduce", "4"}
    assert [s.layer for s in groups["0"].on_axis("out")] == ["0", "3.expand"]


def test_grouped_layers_lose_whole_groups(zoo):
    grouped = {g.name: g for g in zoo("grouped").groups}
    assert len(grouped["0"]) == 4
    assert _slice(grouped["0"], "3", "in")[1] == (3, 4, 5)
    assert _slice(grouped["0"], "3", "out")[1] == (2, 3)
    assert _slice(grouped["0"], "6", "in")[1] == (2, 3)
    assert grouped["0"].width == 3
    assert _slice(zoo("multiplier").groups[0], "3", "out")[1] == (2, 3)
    assert _slice(zoo("group-norm").groups[0], "1", "feature")[3] == (6, 7)


def test_halves_are_one_structure(zoo):
    group = zoo("halves").groups[0]
    assert _slice(group, "0", "out") == tuple((i, 6 + i) for i in range(6))
    assert _slice(group, "2", "in") == tuple((i,) for i in range(6))


def test_parts_of_a_split_know_their_consumers(zoo):
    assert _slice(zoo("glu").groups[0], "expand", "out") == tuple((i, 4 + i) for i in range(4))
    crossed = zoo("crossed-halves").groups[0]
    assert _slice(crossed, "0", "out") == tuple((i, 6 + i) for i in range(6))


def test_bare_parameters_and_prelu(zoo):
    scale = zoo("layer-scale").groups[0]
    assert ("1.gamma", "feature") in {(s.layer, s.axis) for s in scale.slices}
    prelu = {g.name: {s.layer for s in g.slices} for g in zoo("prelu").groups}
    assert prelu == {"0": {"0", "1", "2"}, "2": {"2", "6"}}


def test_vit_has_its_heads_and_mlps(zoo):
    groups = zoo("vit").groups
    assert [g.name for g in groups] == [
        name for block in ("blocks.0", "blocks.1") for name in (f"{block}.attn.heads", f"{block}.mlp.fc1")
    ]
    heads, mlp, *_ = groups
    assert [(s.layer, s.axis) for s in mlp.slices] == [("blocks.0.mlp.fc1", "out"), ("blocks.0.mlp.fc2", "in")]
    second = range(6, 12)
    assert heads.slices[0] == Slice("blocks.0.attn", "head", ((0,), (1,)))
    assert _slice(heads, "blocks.0.attn.qkv", "out")[1] == tuple(part + i for part in (0, 12, 24) for i in second)
    assert _slice(heads, "blocks.0.attn.proj", "in")[1] == tuple(second)
    assert heads.width == 6


def test_dimensions_lie_in_all_heads(zoo):
    groups = {g.name: g for g in zoo("vit-dims").groups}
    query_key, value = groups["blocks.1.attn.query-key"], groups["blocks.1.attn.value"]
    assert (len(query_key), len(value), query_key.width, value.width) == (6, 6, 1, 1)
    assert _slice(query_key, "blocks.1.attn.qkv", "out")[2] == (2, 8, 14, 20)
    assert _slice(value, "blocks.1.attn.qkv", "out")[2] == (26, 32)
    assert _slice(value, "blocks.1.attn.proj", "in")[2] == (2, 8)
    assert query_key.on_axis("in") == []


def test_heads_that_share_keys_go_together():
    """The norm behind takes statistics over heads: cut and masked nets differ, and only reordering can be checked."""
    groups = {g.name: g for g in find_groups(rotary(scale_norm=True), SIZE)}
    heads = groups["attention.heads"]
    assert len(heads) == 3
    assert _slice(heads, "attention.q_proj", "out")[1] == (4, 5, 6, 7)
    assert _slice(heads, "attention.k_proj", "out")[1] == (2, 3)
    assert _slice(heads, "attention.norm", "feature")[1] == (4, 5, 6, 7)
    assert _slice(heads, "attention.gate", "out")[1] == (4, 5, 6, 7)


def test_normed_queries_keep_their_order(zoo):
    groups = {g.name: g for g in find_groups(zoo("normed").model, SIZE, head_dims=True)}
    query_key = groups["attention.query-key"]
    assert _slice(query_key, "attention.q_norm", "feature") == _slice(query_key, "attention.k_norm", "feature")
    assert _slice(query_key, "attention.q_norm", "feature") == ((0,), (1,), (2,), (3,))


def test_every_position_belongs_to_one_structure(case):
    for g in case.groups:
        for s in g.slices:
            positions = [p for row in s.indices for p in row]
            assert len(set(positions)) == len(positions)
    names = [g.name for g in case.groups]
    assert len(set(names)) == len(names)


def test_outputs_and_inputs_are_no_structures(case):
    for g in case.groups:
        assert all(len(g) > 1 for g in case.groups)
        for s in g.on_axis("out"):
            layer = case.model.get_submodule(s.layer)
            assert list(case.model.modules())[-1] is not layer


def test_a_layer_with_channels_of_two_kinds_gives_two_groups():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.a, self.b, self.fc = (
                nn.Conv2d(3, 8, 1),
                nn.Conv2d(3, 2, 1),
                nn.Conv2d(3, 6, 1),
                nn.Linear(8, 2),
            )

        def forward(self, x):
            return self.fc((torch.cat([self.a(x), self.b(x)], 1) * torch.sigmoid(self.gate(x))).mean((2, 3)))

    first, second = find_groups(Net(), SIZE)
    assert (first.name, len(first), second.name, len(second)) == ("gate", 2, "gate#2", 6)
    assert [(s.layer, s.axis) for s in second.slices] == [("gate", "out"), ("b", "out"), ("fc", "in")]
    assert _slice(second, "gate", "out") == _slice(second, "fc", "in") == tuple((2 + i,) for i in range(6))


def test_model_is_left_as_found(zoo):
    model = zoo("residual").model
    model.train()
    model[0].requires_grad_(False)
    model[1].eval()
    before = copy.deepcopy(model.state_dict())
    state = torch.random.get_rng_state()
    find_groups(model, SIZE)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [m.training for m in model][:3] == [True, False, True]
    assert [p.requires_grad for p in model.parameters()][:4] == [False, False, True, True]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_order_and_json_are_stable(zoo):
    case = zoo("residual-streams")
    again = find_groups(copy.deepcopy(case.model), SIZE, residual_streams=True)
    assert again == case.groups == groups_from_json(groups_to_json(again))


def test_the_embedding_of_a_vit_is_a_stream(zoo, images):
    model = zoo("vit").model
    stream, *others = find_groups(model, SIZE, residual_streams=True)
    assert [g.name for g in others] == [g.name for g in zoo("vit").groups]
    assert stream.name == "patch_embed.proj"
    touched = {(s.layer, s.axis) for s in stream.slices}
    assert {("pos_embed", "feature"), ("cls_token", "feature"), ("norm", "feature"), ("head", "in")} <= touched
    apply_plan(model, removal_plan(model, [stream], {stream.name: [0, 7]}))
    assert model(images).shape == (3, 5)
    assert model.pos_embed.shape == (1, 5, 10)
    assert model.embed_dim == model.num_features == 10


def test_a_vit_with_any_stem_keeps_its_width(zoo):
    model = zoo("vit").model
    model.patch_embed = nn.Identity()
    apply_plan(model, Plan())
    assert model.embed_dim == 12


def test_the_embedding_of_torchvisions_vit_is_a_stream(zoo, images):
    model = zoo("vit-of-torchvision").model
    stream, *others = find_groups(model, SIZE, residual_streams=True)
    assert [g.name for g in others] == [g.name for g in zoo("vit-of-torchvision").groups]
    apply_plan(model, removal_plan(model, [stream], {stream.name: [0, 7]}))
    assert model(images).shape == (3, 5)
    assert model.hidden_dim == 10


@pytest.mark.parametrize(("name", "groups"), [("resnet18", 8), ("mobilenet_v2", 20)])
def test_torchvision_nets(name, groups):
    import torchvision

    model = torchvision.models.get_model(name, num_classes=4)
    assert len(find_groups(model, (3, 32, 32))) == groups


def test_torchvision_densenet():
    from torchvision.models import DenseNet

    model = DenseNet(growth_rate=4, block_config=(2, 2), num_init_features=8, bn_size=2, num_classes=4)
    groups = {g.name: g for g in find_groups(model, (3, 32, 32))}
    assert len(groups) == 1 + 2 * 4 + 1
    second = "features.denseblock1.denselayer2.conv2"
    assert _slice(groups[second], "features.transition1.conv", "in") == tuple((12 + i,) for i in range(4))


@pytest.mark.parametrize(("name", "groups"), [("resnet10t", 6), ("mobilenetv3_small_050", 23), ("convnext_atto", 12)])
def test_timm_nets(name, groups):
    import timm

    model = timm.create_model(name, num_classes=4)
    assert len(find_groups(model, (3, 32, 32))) == groups


@pytest.mark.parametrize(("name", "groups"), [("resnet8", 3), ("vgg11", 8)])
def test_own_nets(name, groups):
    from oba.models import build_model

    model = build_model(name, num_classes=10, input_size=(1, 8, 8))
    assert len(find_groups(model, (1, 8, 8))) == groups
