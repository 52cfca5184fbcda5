"""A method of a study, made ready: parts with the options that the study spells out."""

from __future__ import annotations

import torch
from torch import nn

from oba.importance import score_structures
from oba.pruning.method import Method
from oba.structures import Slice, StructureGroup
from oba.study import parse_study

MODEL = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
GROUP = StructureGroup("0", tuple(Slice(n, a, ((0,), (1,), (2,))) for n, a in (("0", "out"), ("1", "in"))))


def _method(study_values, **entry):
    (method,) = parse_study(study_values | {"methods": [entry]}, "study").methods
    return Method.of(method)


def test_parts_are_those_of_the_study(study_values):
    floors = {"max_removed": 0.5}
    made = _method(
        study_values, criterion="random", allocation="per-mac", update="none", rounds=7, floors=floors, name="mine"
    )
    assert (made.steps.allocation.name, made.steps.update.name, made.steps.rounds) == ("per-mac", "none", 7)
    assert (made.steps.floors.max_removed, made.steps.floors.min_channels) == (0.5, 1)
    assert made.config.name == "mine"
    assert made.criterion(0).name == "random"


def test_options_reach_the_scores(study_values):
    raw = _method(study_values, criterion={"name": "magnitude", "normalizer": "none"})
    largest = _method(study_values, criterion="magnitude")
    scores = [score_structures(MODEL, [GROUP], [], made.criterion(0)).alone["0"] for made in (raw, largest)]
    torch.testing.assert_close(scores[1], scores[0] / scores[0].max(), rtol=1e-15, atol=0)
    assert scores[0].max() != 1


def test_every_criterion_is_a_fresh_one_with_its_seed(study_values):
    made = _method(study_values, criterion="random")
    drawn = [score_structures(MODEL, [GROUP], [], made.criterion(seed)).alone["0"] for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert made.criterion(1) is not made.criterion(1)
