"""Whole nets of timm and torchvision: grouped, cut to part of their MACs, run, stored, loaded again."""

from __future__ import annotations

import random

import pytest
import torch

from oba.models import build_model
from oba.models.stored import ModelCard, save_pruned
from oba.pruning.cost import CostModel, measure
from oba.pruning.dependencies import find_groups
from oba.pruning.replay import apply_plan, load_pruned, removal_plan

SIZE = (3, 64, 64)
GROUPS = {
    "timm/convnextv2_atto": (12, 16),
    "timm/swin_tiny_patch4_window7_224": (24, 28),
    "timm/efficientnet_b0": (35, 40),
    "timm/mobilenetv3_small_100": (23, 27),
    "timm/densenet121": (120, 120),
    "timm/regnetx_002": (14, 18),
    "timm/vit_tiny_patch16_224": (24, 25),
    "torchvision/mobilenet_v2": (20, 25),
}
"""Number of groups without and with residual streams."""


def _random_removal(model, groups, keep):
    """Remove random structures, at least one of each group left, until no more than ``keep`` of the MACs are."""
    cost = CostModel.of(model, SIZE)
    target = keep * cost.macs
    order = [(g, i) for g in groups for i in range(1, len(g))]
    random.Random(0).shuffle(order)
    removed = {g.name: [] for g in groups}
    while order and cost.macs > target:
        group, index = order.pop()
        cost.remove(group, 1)
        removed[group.name].append(index)
    return removed, cost.macs


@pytest.mark.slow
@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("name", GROUPS)
def test_library_nets_are_pruned_and_come_back(name, streams, tmp_path):
    torch.manual_seed(0)
    model = build_model(name, num_classes=10, input_size=SIZE).eval()
    groups = find_groups(model, SIZE, residual_streams=streams)
    assert len(groups) == GROUPS[name][streams]
    dense = measure(model, SIZE).macs
    removed, expected = _random_removal(model, groups, 0.6)
    plan = removal_plan(model, groups, removed)
    apply_plan(model, plan)
    assert measure(model, SIZE).macs == expected <= 0.6 * dense
    images = torch.randn(2, *SIZE)
    with torch.no_grad():
        logits = model(images)
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()
    save_pruned(tmp_path, model, ModelCard(name, 10, SIZE, tuple("abcdefghij"), (0.5,) * 3, (0.2,) * 3), plan)
    with torch.no_grad():
        assert torch.equal(load_pruned(tmp_path)(images), logits)
