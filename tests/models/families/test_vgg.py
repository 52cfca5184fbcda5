from __future__ import annotations

import pytest
import torch
from torch import nn

from oba.models import build_model


def test_parameter_counts() -> None:
    def count(name: str) -> int:
        model = build_model(name, num_classes=10, input_size=(3, 32, 32))
        return sum(parameter.numel() for parameter in model.parameters())

    assert count("vgg19") == 20_035_018  # 20.04 M in the paper; without the biases that batch norm cancels
    assert count("vgg11x0.5") == 2_310_186


@pytest.mark.parametrize(("edge", "pools", "last"), [(32, 5, 1), (8, 3, 1), (64, 5, 2), (1, 0, 1)])
def test_vgg_pools_until_one_pixel_is_left(edge: int, pools: int, last: int) -> None:
    model = build_model("vgg11x0.125", num_classes=10, input_size=(3, edge, edge)).eval()
    features = model.get_submodule("features")
    assert isinstance(features, nn.Sequential)
    assert sum(isinstance(module, nn.MaxPool2d) for module in features) == pools
    assert features(torch.zeros(1, 3, edge, edge)).shape[2:] == (last, last)
    assert "features.conv3_2" in dict(model.named_modules())
