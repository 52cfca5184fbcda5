from __future__ import annotations

import pytest
import torch
from architectures import Functional, MultiHead, Standardized
from torch import Tensor, nn
from zoo import ZOO

from oba.curvature import directed_parameters, layer_parameters
from oba.errors import ScoreError


def test_parameters_that_modules_hand_to_functions_are_found() -> None:
    found = directed_parameters(Functional().double(), torch.ones(2, 4, 4, dtype=torch.float64))
    assert found == ["packed", "shift", "kernel", "head.weight", "head.bias"]


def test_computed_weights_count_where_their_layer_is_known() -> None:
    found = directed_parameters(nn.Sequential(Standardized(2, 3, 3)), torch.ones(1, 2, 4, 4))
    assert found == ["0.weight", "0.bias"]


def test_attention_keeps_its_projections() -> None:
    found = directed_parameters(MultiHead(), torch.ones(2, 4, 3))
    assert "attention.in_proj_weight" in found
    assert found == layer_parameters(MultiHead())


@pytest.mark.parametrize("member", ZOO, ids=[m.name for m in ZOO])
def test_norms_and_scales_carry_no_direction(member: object) -> None:
    model = member.make().eval()
    found = directed_parameters(model, member.batch()[0])
    norms = {n for n, m in model.named_modules() if isinstance(m, (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm))}
    assert not any(name.rpartition(".")[0] in norms for name in found)
    assert set(layer_parameters(model)) <= set(found)
    assert not {"scale", "position", "block.ls1.gamma"} & set(found)


def test_the_inputs_are_not_changed() -> None:
    class Shift(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.sub_(1))

    x = torch.ones(2, 3)
    assert directed_parameters(Shift(3, 2), x) == ["weight", "bias"]
    assert x.eq(1).all()


def test_a_forward_pass_that_fails_is_reported() -> None:
    with pytest.raises(ScoreError, match=r"the forward pass failed at module '0' \(Linear\)"):
        directed_parameters(nn.Sequential(nn.Linear(3, 2)), torch.ones(2, 4))
