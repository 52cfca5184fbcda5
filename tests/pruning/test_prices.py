"""Prices: normalisers by hand, and scores that cannot be ranked."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from oba.errors import ScoreError
from oba.pruning.prices import StaticScores
from oba.structures import Slice, StructureGroup

GROUP = StructureGroup("a", (Slice("a", "out", ((0,), (1,), (2,))),))
SCORES = torch.tensor([3.0, -4.0, 0.0])


@pytest.mark.parametrize(("normalizer", "by"), [("max", 4), ("mean", 7 / 3), ("sum", 7), ("l2", 5), ("none", 1)])
def test_normalizers(normalizer, by):
    prices = StaticScores([GROUP], {"a": SCORES}, normalizer)
    assert_close(prices.marginals("a"), SCORES.double() / by)
    assert prices.marginals("a").dtype == torch.float64
    assert prices.remove("a", [0]) == ()


@pytest.mark.parametrize("normalizer", ["max", "mean", "sum", "l2", "none"])
def test_zeros_stay_zeros(normalizer):
    assert StaticScores([GROUP], {"a": torch.zeros(3)}, normalizer).marginals("a").tolist() == [0, 0, 0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite(bad):
    with pytest.raises(ScoreError, match="scores of group 'a': 2 of 3 are not finite"):
        StaticScores([GROUP], {"a": torch.tensor([bad, 0, bad])}, "max")


@pytest.mark.parametrize(("scores", "found"), [({}, "none"), ({"a": torch.zeros(2)}, r"shape \(2,\)")])
def test_scores_that_do_not_fit(scores, found):
    with pytest.raises(ScoreError, match=rf"scores of group 'a': {found}, expected shape \(3,\)"):
        StaticScores([GROUP], scores, "max")
