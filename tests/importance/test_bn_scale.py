from __future__ import annotations

import pytest
import torch
from scoring import raw_scores
from torch import nn

from oba.errors import ScoreError
from oba.importance import parameter_scores
from oba.structures import Slice, StructureGroup

SCALES = torch.tensor([0.5, -2.0, 0.0, 1.0])


def net(**options: bool) -> nn.Sequential:
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4, **options), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in {"1.weight", "3.weight"}:
                parameter.copy_(SCALES * int(name[0]))
    return model


def group(*slices: tuple[str, str], rows: tuple[tuple[int, ...], ...] = ((0,), (1,), (2,), (3,))) -> StructureGroup:
    return StructureGroup("g", tuple(Slice(layer, axis, rows) for layer, axis in slices))


CHAIN = group(("0", "out"), ("1", "feature"), ("2", "in"))
STREAM = group(("0", "out"), ("1", "feature"), ("2", "in"), ("2", "out"), ("3", "feature"))


@pytest.mark.parametrize("training", [False, True])
def test_scores_are_absolute_scales(training: bool) -> None:
    found = raw_scores(net().train(training), [CHAIN], [], "bn-scale")["g"]
    assert found.dtype == torch.float64
    assert found.tolist() == [0.5, 2, 0, 1]


def test_the_norms_of_a_stream_are_joined_as_layers_are() -> None:
    assert raw_scores(net(), [STREAM], [], "bn-scale")["g"].tolist() == [1, 4, 0, 2]
    assert raw_scores(net(), [STREAM], [], "bn-scale", over_layers="sum")["g"].tolist() == [2, 8, 0, 4]


def test_a_structure_of_several_channels_adds_them_up() -> None:
    pairs = group(("0", "out"), ("1", "feature"), rows=((0, 1), (2, 3)))
    assert raw_scores(net(), [pairs], [], "bn-scale")["g"].tolist() == [2.5, 1]


def test_other_norms_do_not_count() -> None:
    model = net()
    model[3] = nn.GroupNorm(2, 4)
    assert raw_scores(model, [STREAM], [], "bn-scale")["g"].tolist() == [0.5, 2, 0, 1]


@pytest.mark.parametrize("options", [{}, {"affine": False}])
def test_a_group_without_a_scale_is_refused(options: dict[str, bool]) -> None:
    model, wanted = net(**options), CHAIN if options else group(("0", "out"), ("2", "in"))
    with pytest.raises(ScoreError, match="group 'g': criterion 'bn-scale' needs a batch norm with a scale"):
        raw_scores(model, [wanted], [], "bn-scale")
    with pytest.raises(ScoreError, match="criterion 'bn-scale' scores structures, not parameters"):
        parameter_scores(model, [], "bn-scale")
