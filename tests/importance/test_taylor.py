from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from zoo import CASES, IDS, Member

from oba.importance import parameter_scores
from oba.importance.state import left_as_found


@pytest.mark.parametrize(("member", "norm"), CASES, ids=IDS)
def test_scores_are_values_times_gradients(member: Member, norm: str) -> None:
    model, (inputs, targets) = member.make(), member.batch()
    found = parameter_scores(model, [(inputs, targets)], "taylor", norm=norm)
    with left_as_found(model, norm):
        F.cross_entropy(model(inputs), targets).backward()
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == trainable.keys()
    for name, parameter in trainable.items():
        assert parameter.grad is not None
        torch.testing.assert_close(found[name], parameter.detach() * parameter.grad, rtol=1e-12, atol=1e-15)
