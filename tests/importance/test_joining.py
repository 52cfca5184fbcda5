"""Normalisers by hand, and which criteria have one; reductions are compared with loops in ``test_score.py``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from oba.errors import ScoreError
from oba.importance.batches import Batch
from oba.importance.criterion import BatchScores, Criterion, DerivativeOptions, GroupOptions, Target
from oba.importance.joining import joined
from oba.structures import Slice, StructureGroup

MODEL = nn.Linear(2, 3)
GROUP = StructureGroup("a", (Slice("", "out", ((0,), (1,), (2,))),))
SCORES = torch.tensor([3.0, -4.0, 0.0])


class Fixed(Criterion[GroupOptions]):
    """Scores that are given."""

    def __init__(self, scores: torch.Tensor, normalizer: str) -> None:
        super().__init__(GroupOptions.model_validate({"normalizer": normalizer}))
        self._scores = scores

    def batch_scores(self, model: nn.Module, targets: object, batch: Batch | None) -> BatchScores:
        return BatchScores({"a": self._scores[None]})


@pytest.mark.parametrize(("normalizer", "by"), [("max", 4), ("mean", 7 / 3), ("sum", 7), ("l2", 5), ("none", 1)])
def test_normalizers(normalizer, by):
    found = joined(Fixed(SCORES, normalizer), MODEL, [GROUP], [None]).alone["a"]
    torch.testing.assert_close(found, SCORES.double() / by, rtol=1e-15, atol=0)
    assert found.dtype == torch.float64


@pytest.mark.parametrize("normalizer", ["max", "mean", "sum", "l2", "none"])
def test_zeros_stay_zeros(normalizer):
    assert joined(Fixed(torch.zeros(3), normalizer), MODEL, [GROUP], [None]).alone["a"].tolist() == [0, 0, 0]


def test_the_normaliser_of_the_paper_is_the_default():
    assert GroupOptions().normalizer == "max"


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    with pytest.raises(ScoreError, match="criterion 'test-joining': the scores of group 'a' are not finite"):
        joined(Fixed(torch.tensor([1.0, bad, 0.0]), "max"), MODEL, [GROUP], [None])


class Signed(Criterion[DerivativeOptions]):
    """Scores that change their sign from batch to batch."""

    def batch_scores(self, model: nn.Module, targets: list[Target], batch: Batch | None) -> BatchScores:
        assert batch is not None
        return BatchScores({"a": SCORES[None] * (-1) ** batch.index})


def test_normalising_comes_after_joining():
    batches = [Batch(i, torch.zeros(n, 2), None, lambda outputs, targets: outputs.sum()) for i, n in enumerate((3, 1))]
    found = {
        how: joined(Signed(DerivativeOptions(over_batches=how)), MODEL, [GROUP], batches).alone["a"].tolist()
        for how in ("abs-of-mean", "mean-of-abs", "rms")
    }
    assert found == {how: [0.75, 1, 0] for how in found}
    raw = DerivativeOptions(over_batches="abs-of-mean", normalizer="none")
    assert joined(Signed(raw), MODEL, [GROUP], batches).alone["a"].tolist() == [1.5, 2, 0]
