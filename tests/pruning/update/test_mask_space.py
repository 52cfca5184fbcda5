from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from oba.importance.masks import masked, places_of
from oba.importance.scores import StructureScores
from oba.pruning.cut import make_update
from oba.pruning.plan import restrict
from oba.pruning.update.mask_space import mask_steps


def model_by_hand(case, images):
    """Return gradient and Gauss-Newton matrix of the mean loss, by autograd through one vector of masks."""
    sizes = [len(group) for group in case.groups]
    size = sum(map(len, case.groups))
    gradient, matrix = torch.zeros(size).double(), torch.zeros(size, size).double()
    count = 0
    for x, y in images():

        def logits(masks, x=x):
            parts = dict(zip((group.name for group in case.groups), masks.split(sizes), strict=True))
            with masked(case.model, case.groups, parts):
                return case.model(x)

        ones = torch.ones(sum(sizes), dtype=torch.float64)
        gradient += len(x) * torch.autograd.functional.jacobian(lambda m, y=y: F.cross_entropy(logits(m), y), ones)
        rows, p = torch.autograd.functional.jacobian(logits, ones), logits(ones).softmax(1).detach()
        curvature = p.diag_embed() - p[:, :, None] * p[:, None, :]
        matrix += torch.einsum("nks,nkl,nlt->st", rows, curvature, rows)
        count += len(x)
    return gradient / count, matrix / count


@pytest.mark.parametrize("name", ["batch-norm", "plain-flatten", "multiplier", "inverted-residual-streams", "halves"])
@pytest.mark.parametrize("damping", [0.1, 3.0])
def test_survivors_are_scaled_to_the_minimum_of_the_model(name, damping, zoo, make_cut, calibration):
    """A grouped convolution that passes channels on is not scaled, the layer behind it is."""
    case = zoo(name)
    cut = make_cut(case.model, case.groups)
    raw = copy.deepcopy(cut.after)
    make_update("mask-space", damping=damping).adjust(cut, calibration)
    gradient, matrix = model_by_hand(case, calibration)
    gone = torch.cat([torch.arange(len(group)) % 2 == 1 for group in case.groups])
    kept = matrix[~gone][:, ~gone]
    slope = gradient[~gone] - matrix[~gone][:, gone].sum(1)
    steps = -torch.linalg.inv(kept + damping * kept.diagonal().mean() * torch.eye(len(kept)).double()) @ slope
    left, _ = restrict(case.groups, cut.plan)
    masks = dict(zip((g.name for g in left), (1 + steps).split([len(g) for g in left]), strict=True))
    expected = dict(raw.named_parameters())
    for place in places_of(raw, left).consumers:
        weight = expected[f"{place.layer}.weight"].detach().clone()
        for mask, channels in zip(masks[place.group], place.indices.tolist(), strict=True):
            weight[:, channels] *= mask
        expected[f"{place.layer}.weight"] = weight
    for key, parameter in cut.after.named_parameters():
        torch.testing.assert_close(parameter, expected[key], rtol=1e-6, atol=1e-9)
    assert steps.abs().max() > 1e-3


def test_the_model_has_its_minimum_at_the_steps():
    draw = torch.Generator().manual_seed(0)
    root = torch.randn(7, 7, generator=draw, dtype=torch.float64)
    hessian, gradient = root @ root.T, torch.randn(7, generator=draw, dtype=torch.float64)
    alone = (hessian.diagonal() / 2 - gradient).split([4, 3])
    scores = StructureScores(dict(zip("ab", alone, strict=True)), hessian, in_nats=True)
    steps = mask_steps(scores, {"a": (0, 3), "b": (1,)}, 0.0)

    def value(a, b):
        step = torch.full((7,), -1.0, dtype=torch.float64)
        step[[0, 3]], step[[5]] = a, b
        return gradient @ step + step @ hessian @ step / 2

    slopes = torch.func.grad(value, argnums=(0, 1))(steps["a"], steps["b"])
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-6
    nothing = torch.zeros(3, dtype=torch.float64)
    assert value(steps["a"], steps["b"]) < value(nothing[:2], nothing[2:])


def test_a_group_that_went_whole_has_no_masks():
    scores = StructureScores({"a": torch.ones(2).double(), "b": torch.ones(1).double()}, torch.eye(3).double())
    assert {name: len(step) for name, step in mask_steps(scores, {"a": (1,)}, 0.1).items()} == {"a": 1}


def test_without_any_curvature_nothing_is_scaled():
    scores = StructureScores({"a": torch.zeros(2).double()}, torch.zeros(2, 2).double())
    assert mask_steps(scores, {"a": (1,)}, 0.0)["a"].tolist() == [0]
