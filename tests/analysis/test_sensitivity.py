"""Every entry is the net that ``prune`` makes with given widths; the model is left alone."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
import torch
from torch import nn

import oba
from oba.errors import ConfigError, DataError, ModelError
from oba.models import build_model
from oba.report.frames import records, where
from oba.training.evaluation import evaluate

SIZE, CLASSES = (3, 8, 8), 4


def resnet() -> nn.Module:
    model = build_model("resnet8x0.5", num_classes=CLASSES, input_size=SIZE)
    model.train()
    with torch.no_grad():
        model(torch.randn(64, *SIZE))
    return model


def vit() -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=8, patch_size=4, embed_dim=12, depth=2, num_heads=3, num_classes=CLASSES)


def batches(seed: int, sizes: tuple[int, ...] = (16, 16, 8)) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(n, *SIZE, generator=generator), torch.randint(CLASSES, (n,), generator=generator)) for n in sizes
    ]


IMAGES, VAL = batches(1), batches(2)


def measured(model: nn.Module) -> tuple[float, float]:
    split: Any = SimpleNamespace(batches=lambda size, part: iter(VAL))
    found = evaluate(model, cast("Any", split), device=torch.device("cpu"))
    return found.top1, found.loss


@pytest.fixture(params=[resnet, vit])
def model(request) -> nn.Module:
    torch.manual_seed(3)
    return request.param()


@pytest.mark.parametrize("criterion", ["magnitude", "oba-joint"])
def test_an_entry_is_the_net_that_prune_makes(model, criterion):
    frame = oba.sensitivity(model, IMAGES, VAL, keep=[0.5, 0.3], criterion=criterion)
    kinds = set()
    for row in records(frame.groupby(["kind", "keep"]).tail(1)):
        kinds.add(row.kind)
        given = {"name": "given", "counts": {row.group: row.kept}}
        method = {"criterion": criterion, "allocation": given, "update": "norm", "rounds": 1}
        net = oba.prune(model, IMAGES, keep=row.macs_kept + 1e-9, method=method)
        assert (row.val_top1, row.val_loss) == measured(net)
    assert kinds == ({"channel", "head"} if "VisionTransformer" in type(model).__name__ else {"channel"})


def test_a_whole_group_is_the_net_as_it_is(model):
    frame = oba.sensitivity(model, IMAGES, VAL, keep=[1.0])
    top1, loss = measured(oba.open_attention(copy.deepcopy(model)))
    assert (frame.val_top1 == top1).all()
    assert (frame.val_loss == loss).all()
    assert (frame.drop_points == 0).all()
    assert (frame.macs_kept == 1).all()
    assert (frame.kept == frame.structures).all()


def test_the_model_is_left_as_found_and_the_same_is_found_again(model):
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    first = oba.sensitivity(model, iter(IMAGES), iter(VAL), keep=[0.4], criterion="random", seed=5)
    second = oba.sensitivity(model, IMAGES, VAL, keep=[0.4], criterion="random", seed=5)
    pd.testing.assert_frame_equal(first, second)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes


def test_groups_are_in_order_and_at_least_one_structure_stays(model):
    told: list[tuple[int, int]] = []
    groups = oba.find_groups(oba.open_attention(copy.deepcopy(model)), SIZE)
    frame = oba.sensitivity(model, IMAGES, VAL, keep=[0.01, 0.5, 0.5], tell=lambda *counts: told.append(counts))
    assert list(frame.group.unique()) == [group.name for group in groups]
    assert list(frame.keep[:2]) == [0.5, 0.01]
    assert (where(frame, frame.keep == 0.01).kept == 1).all()
    assert told == [(i + 1, 2 * len(groups)) for i in range(2 * len(groups))]
    assert (frame.macs < frame.macs.max() / frame.macs_kept.max()).all()


def test_a_net_without_a_finite_loss_is_an_entry_too():
    torch.manual_seed(0)
    net = resnet()
    broken = [(inputs * float("inf"), targets) for inputs, targets in VAL]
    frame = oba.sensitivity(net, IMAGES, broken, keep=[0.5])
    assert frame.val_loss.isna().all()


@pytest.mark.parametrize("keep", [[0.0], [1.2], []])
def test_fractions_that_are_none_are_refused(keep):
    with pytest.raises(ConfigError, match=r"keep: got .*; allowed"):
        oba.sensitivity(resnet(), IMAGES, VAL, keep=keep)


def test_no_images_and_nothing_to_shrink_are_refused():
    with pytest.raises(DataError, match="val: there is no batch"):
        oba.sensitivity(resnet(), IMAGES, [])
    with pytest.raises(ModelError, match="nothing can shrink"):
        oba.sensitivity(nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES)), IMAGES, VAL)
