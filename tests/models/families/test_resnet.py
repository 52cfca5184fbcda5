from __future__ import annotations

import pytest
import torch
from torch import nn

from oba.models import build_model
from oba.models.families.resnet import Block, ResNet


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [
        ("resnet32x4", 10, 7_427_914),  # 7.43 M in the paper
        ("resnet20", 10, 272_474),  # He et al.: 0.27 M, without projections
        ("resnet56", 100, 861_620),  # likewise 0.85 M, at 10 classes
        ("resnet8", 10, 78_042),
    ],
)
def test_parameter_counts(name: str, classes: int, parameters: int) -> None:
    model = build_model(name, num_classes=classes, input_size=(3, 32, 32))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_he_initialisation_has_the_variance_of_the_fan_of_outputs() -> None:
    model = build_model("resnet8x4", num_classes=10, input_size=(3, 8, 8))
    weight = model.get_parameter("layer3.0.conv2.weight")
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)


def test_shortcuts_are_projections_only_where_the_shape_changes() -> None:
    model = build_model("resnet20", num_classes=10, input_size=(3, 32, 32))
    blocks = {name: m for name, m in model.named_modules() if isinstance(m, Block)}
    projected = [name for name, block in blocks.items() if isinstance(block.shortcut, nn.Sequential)]
    assert len(blocks) == 9
    assert projected == ["layer2.0", "layer3.0"]
    assert [blocks[name].shortcut.get_submodule("0").kernel_size for name in projected] == [(1, 1), (1, 1)]


def test_a_block_is_what_he_et_al_draw() -> None:
    block = Block(2, 4, stride=2).eval()
    x = torch.randn(3, 2, 5, 5)
    inner = torch.relu(block.bn1(block.conv1(x)))
    expected = torch.relu(block.bn2(block.conv2(inner)) + block.shortcut(x))
    assert expected.shape == (3, 4, 3, 3)
    assert torch.equal(block(x), expected)


@pytest.mark.parametrize(("edge", "maps"), [(32, (32, 16, 8)), (8, (8, 4, 2)), (4, (4, 2, 1)), (1, (1, 1, 1))])
def test_later_stages_halve_the_map(edge: int, maps: tuple[int, ...]) -> None:
    model = ResNet(8, 0.25, 10, channels=1).eval()
    seen: list[int] = []
    for name in ("layer1", "layer2", "layer3"):
        model.get_submodule(name).register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape[-1]))
    model(torch.zeros(1, 1, edge, edge))
    assert tuple(seen) == maps
