from __future__ import annotations

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import nn
from zoo import CASES, IDS, Member

from oba.curvature import Watch, directed_parameters
from oba.curvature.channel_sums import Sums
from oba.curvature.dual_mode import dual_level
from oba.curvature.tangents import TangentMode
from oba.importance.state import left_as_found


@pytest.mark.parametrize(("member", "norm"), CASES, ids=IDS)
def test_the_tangent_of_the_output_is_the_directional_derivative(member: Member, norm: str) -> None:
    model = member.make()
    inputs, _ = member.batch()
    step = 1e-6
    with left_as_found(model, norm):
        names = directed_parameters(model, inputs)
        parameters = dict(model.named_parameters())
        with Watch(model) as watch, dual_level():
            with TangentMode({name: parameters[name] for name in names}, Sums(), watch) as mode:
                outputs = model(inputs)
            value, tangent = forward_ad.unpack_dual(outputs)
        assert tangent is not None
        assert mode.products or mode.weights
        torch.testing.assert_close(value, model(inputs))
        # A gate without gradient does not move in the tangent, but does in the difference.
        if member.name != "detached":
            ahead, behind = (
                torch.func.functional_call(model, {n: parameters[n].detach() * (1 + s) for n in names}, (inputs,))
                for s in (step, -step)
            )
            torch.testing.assert_close(tangent, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-6)


def test_only_products_of_two_moving_factors_are_recorded() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3, bias=False), nn.SiLU())
    x = torch.ones(2, 3)
    with Watch(model) as watch, dual_level():
        mode = TangentMode(dict(model.named_parameters()), Sums(), watch)
        with mode:
            y = model(x)
            _ = y * 2 + y * x
            assert not mode.products
            _ = y * y
            _ = F.linear(y, model[2].weight * 1)
    assert mode.weights == {"0.weight", "2.weight"}
    assert [tangent.node.name() for _, tangent in mode.products] == ["AddBackward0", "AddBackward0"]
