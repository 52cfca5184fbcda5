"""Whole nets of timm and torchvision: scored, pruned to half of their MACs, trained on, stored, loaded again."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from oba.config import Floors
from oba.importance import score_structures
from oba.models import build_model
from oba.models.stored import ModelCard, save_pruned
from oba.pruning.cost import measure
from oba.pruning.cut import make_update
from oba.pruning.dependencies import find_groups
from oba.pruning.levels import Steps, prune_to_level
from oba.pruning.plan import Plan
from oba.pruning.problem import make_allocation
from oba.pruning.replay import load_pruned

SIZES = {"timm/eva02_tiny_patch14_224": (3, 56, 56)}
"""Sizes of images, 64² where none is given."""
STEPS = Steps(make_allocation("uniform"), make_update("none"), 1, Floors(max_removed=0.95))
GROUPS = {
    "resnet32x4": (15, 18),
    "vgg19": (16, 16),
    "torchvision/resnet50": (33, 37),
    "torchvision/mobilenet_v2": (20, 25),
    "torchvision/vit_b_16": (24, 25),
    "timm/vit_tiny_patch16_224": (24, 25),
    "timm/deit_tiny_patch16_224": (24, 25),
    "timm/mobilenetv3_small_100": (23, 27),
    "timm/efficientnet_b0": (35, 40),
    "timm/convnext_atto": (12, 16),
    "timm/convnextv2_atto": (12, 16),
    "timm/swin_tiny_patch4_window7_224": (24, 28),
    "timm/densenet121": (120, 120),
    "timm/regnetx_002": (14, 18),
    "timm/resnext50_32x4d": (17, 21),
    "timm/eva02_tiny_patch14_224": (24, 25),
    "timm/mobilevitv2_050": (23, 27),
    "timm/fastvit_t8": (11, 12),
}
"""Number of groups without and with residual streams."""


@pytest.mark.slow
@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("name", GROUPS)
def test_library_nets_are_pruned_and_come_back(name, streams, tmp_path):
    size = SIZES.get(name, (3, 64, 64))
    torch.manual_seed(0)
    model = build_model(name, num_classes=10, input_size=size).eval()
    groups = find_groups(model, size, residual_streams=streams)
    assert len(groups) == GROUPS[name][streams]
    dense = measure(model, size).macs
    images = [(torch.randn(2, *size), torch.tensor([0, 1]))]
    plan, rounds = prune_to_level(
        model,
        groups,
        Plan(),
        score=lambda net, current: score_structures(net, current, images, "oba"),
        steps=STEPS,
        images=lambda: images,
        keep=0.5,
        input_size=size,
    )
    macs = measure(model, size).macs
    assert rounds[-1].macs_kept == macs / dense <= 0.5
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.train().parameters(), lr=1e-3)
    for inputs, targets in images:
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    assert any(not torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    save_pruned(tmp_path, model, ModelCard(name, 10, size, tuple("abcdefghij"), (0.5,) * 3, (0.2,) * 3), plan)
    with torch.no_grad():
        assert torch.equal(load_pruned(tmp_path)(images[0][0]), model.eval()(images[0][0]))
