from __future__ import annotations

import torch
from scoring import raw_scores
from torch import nn

from oba.importance import parameter_scores
from oba.structures import Slice, StructureGroup

MODEL = nn.Sequential(nn.Linear(2, 200), nn.Linear(200, 300), nn.Linear(300, 2))
FIRST = StructureGroup("0", (Slice("0", "out", tuple((i,) for i in range(200))),))
SECOND = StructureGroup(
    "1", tuple(Slice(n, a, tuple((i,) for i in range(300))) for n, a in (("1", "out"), ("2", "in")))
)


def test_scores_follow_the_seed_and_nothing_else() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = parameter_scores(MODEL, [], "random", seed=3)
    torch.manual_seed(1)
    again = parameter_scores(MODEL, [], "random", seed=3)
    other = parameter_scores(MODEL, [], "random", seed=4)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first)
    assert first.keys() == dict(MODEL.named_parameters()).keys()


def test_structures_are_drawn_evenly_whatever_their_size() -> None:
    found = raw_scores(MODEL, [FIRST, SECOND], [], "random", seed=5)
    assert found["0"].shape == (200,)
    assert found["1"].shape == (300,)
    for scores in found.values():
        assert 0 <= scores.min() < 0.05
        assert 0.95 < scores.max() < 1
        assert 0.4 < scores.mean() < 0.6
    again = raw_scores(MODEL, [FIRST, SECOND], [], "random", seed=5)
    assert all(torch.equal(found[key], again[key]) for key in found)
    other = raw_scores(MODEL, [FIRST, SECOND], [], "random", seed=6)
    assert not torch.equal(found["0"], other["0"])
