"""What of a net stays whole, and why; which settings keep more of it so, and which nets are refused."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from oba.errors import ConfigError, ModelError
from oba.pruning.dependencies import find_groups, find_structures
from oba.pruning.plan import restrict
from oba.pruning.replay import removal_plan
from oba.structures import groups_from_json, groups_to_json

SIZE = (3, 8, 8)


def test_what_stays_whole_and_why(zoo):
    assert find_structures(zoo("residual").model, SIZE).whole == {
        "0": "in a residual stream, and structures.residual_streams is off",
        "3.body.3": "in a residual stream, and structures.residual_streams is off",
        "4.body.3": "in a residual stream, and structures.residual_streams is off",
        "4.shortcut": "in a residual stream, and structures.residual_streams is off",
        "7": "an output of the net",
    }
    found = find_structures(zoo("dense").model, SIZE, ignore=["3.body.0"])
    assert found.groups == [g for g in zoo("dense").groups if g.name != "3.body.0"]
    assert found.whole == {"3.body.0": "named in structures.ignore", "10": "an output of the net"}
    vit = find_structures(zoo("vit").model, SIZE, residual_streams=True).whole
    assert vit == {"head": "an output of the net"}


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (
            [nn.Conv2d(3, 6, 1), nn.ConvTranspose2d(6, 4, 2), nn.Conv2d(4, 3, 1)],
            r"tied to 1 \(ConvTranspose2d\), which",
        ),
        ([nn.Conv2d(3, 6, 1), nn.Conv2d(6, 3, 1, groups=3), nn.Conv2d(3, 3, 1)], r"tied to 1 \(Conv2d\), which cannot"),
        ([nn.Conv2d(3, 1, 1), nn.Conv2d(1, 3, 1)], r"all its channels are one structure"),
    ],
)
def test_why_one_layer_stays_whole(layers, reason):
    whole = find_structures(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), SIZE).whole
    assert re.match(reason, whole["0"])


def test_why_channels_added_to_the_input_stay_whole():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.fc = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 2)

        def forward(self, x):
            return self.fc((x + self.a(x)).mean((2, 3)))

    assert find_structures(Net(), SIZE).whole["a"] == "tied to the net's inputs"


def test_conv_added_to_the_input_stays_whole():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.fc = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 4, 1), nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.b(x + self.a(x)).mean((2, 3)))

    assert [g.name for g in find_groups(Net(), SIZE, residual_streams=True)] == ["b"]


@pytest.mark.parametrize(
    ("layer", "width"),
    [
        (nn.ConvTranspose2d(6, 4, 2), 4),
        (nn.LayerNorm((6, 8, 8)), 6),
        (nn.Conv2d(6, 3, 1, groups=3), 3),
    ],
)
def test_channels_before_layers_that_cannot_be_cut_stay(layer, width):
    model = nn.Sequential(nn.Conv2d(3, 6, 1), layer, nn.Conv2d(width, 5, 1), nn.Flatten(), nn.LazyLinear(2))
    model(torch.zeros(1, *SIZE))
    assert [g.name for g in find_groups(model, SIZE)] == ["2"]


def test_closed_attention_stays_whole():
    from torchvision.models.vision_transformer import VisionTransformer

    model = VisionTransformer(8, 4, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=12, num_classes=3)
    for streams in (False, True):
        groups = find_groups(model, SIZE, residual_streams=streams)
        assert [g.name for g in groups] == ["encoder.layers.encoder_layer_0.mlp.0"]


def test_what_of_attention_stays_whole(zoo):
    vit = zoo("vit").model
    off = find_structures(vit, SIZE, heads=False).whole
    assert off["blocks.0.attn.qkv"] == "inside attention, and structures.heads is off"
    named = find_structures(vit, SIZE, ignore=["blocks.0.attn"])
    assert named.whole["blocks.0.attn.qkv"] == "named in structures.ignore"
    assert [g.name for g in named.groups][:2] == ["blocks.0.mlp.fc1", "blocks.1.attn.heads"]
    turned = find_structures(zoo("rotary").model, SIZE, heads=False, head_dims=True)
    assert "attention.query-key" not in [g.name for g in turned.groups]
    assert "attention.value" in [g.name for g in turned.groups]


def test_every_kind_of_structure_is_told_and_has_a_switch(zoo):
    switches = {"channels": "channel", "residual_streams": "stream", "heads": "head", "head_dims": "query-key"}
    vit = zoo("vit").model
    for switch, kind in switches.items():
        only = find_groups(vit, SIZE, **{name: name == switch for name in switches})
        assert {g.kind for g in only} == ({kind, "value"} if switch == "head_dims" else {kind})
    whole = find_structures(vit, SIZE, channels=False).whole
    assert whole["blocks.0.mlp.fc1"] == "inside of a block, and structures.channels is off"
    everything = find_groups(vit, SIZE, residual_streams=True, head_dims=True)
    assert groups_from_json(groups_to_json(everything)) == everything
    left, _ = restrict(everything, removal_plan(vit, everything, {g.name: [0] for g in everything}))
    assert [g.kind for g in left] == [g.kind for g in everything]


def test_ignore_keeps_outputs_whole(zoo):
    model = zoo("dense").model

    def names(*ignore):
        return [g.name for g in find_groups(model, SIZE, ignore=ignore)]

    assert names("0") == ["3.body.0", "4.body.0", "5"]
    assert names("1") == names("0"), "the norm behind it keeps the convolution whole too"
    assert names("*.body.*") == names("3", "4") == ["0", "5"]


def test_ignore_takes_bare_parameters(zoo):
    assert [g.name for g in find_groups(zoo("layer-scale").model, SIZE, ignore=["1.gamma"])] == ["2"]


def test_unknown_ignore_is_refused(zoo):
    with pytest.raises(ConfigError, match=r"structures.ignore: '3.bodi.0' matches no layer .* near names: 3.body.0"):
        find_groups(zoo("dense").model, SIZE, ignore=["3.bodi.0"])


def test_a_split_into_sizes_written_in_the_code_is_refused():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.fc = (
                nn.Conv2d(3, 8, 1),
                nn.Conv2d(2, 4, 1),
                nn.Conv2d(6, 4, 1),
                nn.Linear(8, 2),
            )

        def forward(self, x):
            left, right = torch.relu(self.a(x)).split([2, 6], 1)
            return self.fc(torch.cat([self.b(left), self.c(right)], 1).mean((2, 3)))

    with pytest.raises(ModelError, match=r"wrong at 2 of 4 groups: .* to structures.ignore: \[a\]$"):
        find_groups(Net(), SIZE)
    assert [g.name for g in find_groups(Net(), SIZE, ignore=["a"])] == ["b", "c"]


def test_a_net_that_does_not_run_is_refused(zoo):
    with pytest.raises(
        ModelError, match=r"layers of Sequential cannot be traced: RuntimeError: .*expected input"
    ) as info:
        find_groups(zoo("batch-norm").model, (4, 8, 8))
    assert "\n" not in str(info.value)
