"""The central identity: a pruned net computes what the dense net computes with structures masked."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from oba.importance.masks import masked, removal_masks
from oba.pruning.replay import apply_plan, removal_plan


def _some(groups, seed):
    """Pick a random, non-empty, proper subset of every group's structures."""
    generator = torch.Generator().manual_seed(seed)
    picks = {g.name: torch.randperm(len(g), generator=generator) for g in groups}
    return {n: p[: int(torch.randint(1, len(p), (), generator=generator))].tolist() for n, p in picks.items()}


@pytest.mark.parametrize("seed", range(3))
def test_pruned_equals_masked(case, images, seed):
    removed = _some(case.groups, seed)
    with torch.no_grad():
        dense = case.model(images)
        with masked(case.model, case.groups, removal_masks(case.groups, removed)):
            expected = case.model(images)
        pruned = copy.deepcopy(case.model)
        apply_plan(pruned, removal_plan(pruned, case.groups, removed))
        assert_close(pruned(images), expected, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(expected, dense, rtol=1e-4)


def test_each_group_alone(case, images):
    for group in case.groups:
        removed = {group.name: [0, len(group) - 1][: len(group) - 1]}
        pruned = copy.deepcopy(case.model)
        with torch.no_grad(), masked(case.model, case.groups, removal_masks(case.groups, removed)):
            expected = case.model(images)
        apply_plan(pruned, removal_plan(pruned, case.groups, removed))
        assert_close(pruned(images), expected, rtol=1e-10, atol=1e-12)


def test_masks_of_one_change_nothing_and_hooks_go(case, images):
    before = case.model(images)
    with masked(case.model, case.groups, removal_masks(case.groups, {})):
        assert torch.equal(case.model(images), before)
        assert any(m._forward_pre_hooks for m in case.model.modules())
    assert not any(m._forward_pre_hooks for m in case.model.modules())


def test_hooks_go_after_an_error(zoo):
    case = zoo("plain-flatten")
    with pytest.raises(RuntimeError), masked(case.model, case.groups, removal_masks(case.groups, {})):
        case.model(torch.zeros(1, 4, 8, 8, dtype=torch.float64))
    assert not any(m._forward_pre_hooks for m in case.model.modules())


def test_a_mask_multiplies_once(images):
    """Behind the last activation the logits are affine in the mask of a net without later ones."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    ).double()
    from oba.pruning.dependencies import find_groups

    groups = find_groups(model, (3, 8, 8))
    mask = torch.full((4,), 0.5, dtype=torch.float64, requires_grad=True)
    with masked(model, groups, {"0": mask}):
        halved = model(images)
    linear = model[4]
    assert isinstance(linear, nn.Linear)
    assert_close(halved - linear.bias, (model(images) - linear.bias) / 2)
    halved.sum().backward()
    assert mask.grad is not None
    assert mask.grad.abs().min() > 0


def test_depthwise_is_not_masked_itself(zoo, images):
    """A mask of 0.5 on an inverted residual's hidden channels acts behind the depthwise part only."""
    case = zoo("inverted-residual")
    (group,) = case.groups
    seen = []
    depthwise, project = (case.model.get_submodule(f"3.body.{i}") for i in (3, 6))
    handles = [m.register_forward_pre_hook(lambda _, x: seen.append(x[0])) for m in (depthwise, project)]
    case.model(images)
    for handle in handles:
        handle.remove()
    plain = list(seen)
    seen.clear()
    with masked(case.model, case.groups, {group.name: torch.full((9,), 0.5)}):
        handles = [m.register_forward_pre_hook(lambda _, x: seen.append(x[0])) for m in (depthwise, project)]
        case.model(images)
    for handle in handles:
        handle.remove()
    assert torch.equal(seen[0], plain[0])
    assert_close(seen[1], plain[1] / 2)


def test_a_layer_norm_over_cut_channels_is_the_exception(images):
    """It takes its statistics over the kept channels, so masking differs and the cut net is right by definition."""
    from oba.pruning.dependencies import find_groups

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.norm, self.head = nn.Linear(3, 8), nn.LayerNorm(8), nn.Linear(8, 5)

        def forward(self, x):
            return self.head(self.norm(self.embed(x.mean((2, 3)))))

    torch.manual_seed(0)
    model = Tokens().double().eval()
    groups = find_groups(model, (3, 8, 8))
    kept = [0, 2, 3, 6, 7]
    removed = {"embed": [1, 4, 5]}
    inner = model.embed(images.mean((2, 3)))[:, kept]
    expected = nn.functional.layer_norm(inner, (5,)) @ model.head.weight[:, kept].T + model.head.bias
    with masked(model, groups, removal_masks(groups, removed)):
        masked_output = model(images)
    apply_plan(model, removal_plan(model, groups, removed))
    assert_close(model(images), expected)
    assert not torch.allclose(masked_output, expected, rtol=1e-3)
