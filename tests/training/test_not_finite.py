"""A loss that is not finite is told with the training, the epoch and the likely cause."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from oba.errors import TrainingError
from oba.recipes import TrainConfig
from oba.training.evaluation import evaluate


class BreaksInValidation(nn.Module):
    """Finite while it trains, and in evaluation until its n-th pass over a validation set of one batch."""

    def __init__(self, passes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 4)
        self.left = passes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.left -= not self.training
        return self.linear(x.flatten(1)) * (torch.nan if self.left == 0 and not self.training else 1)


def test_a_training_names_itself_the_epoch_and_the_cause(toy: SimpleNamespace, run: Any) -> None:
    bundle = toy.ToyBundle(toy.ToySplit(40, seed=1))
    config = TrainConfig(epochs=5, batch_size=len(bundle.val), lr=0.01)
    with pytest.raises(TrainingError) as caught:
        run(config, model=BreaksInValidation(3), bundle=bundle, label="dense resnet8 seed0")
    assert str(caught.value) == (
        f"dense resnet8 seed0: validation after epoch 3: the loss on {len(bundle.val)} images is nan: "
        "likely lr 0.01 is too high (lower it, or set warmup_epochs), or the net it started from is damaged"
    )


@pytest.mark.parametrize(("label", "start"), [("", ""), ("prune oba", "prune oba: ")])
def test_an_evaluation_names_what_it_measures(toy: SimpleNamespace, label: str, start: str) -> None:
    split, device = toy.ToySplit(5, seed=1), torch.device("cpu")
    cause = "the loss on 5 images is nan: the net's weights or statistics are not finite"
    with pytest.raises(TrainingError, match=f"^{re.escape(start + cause)}$"):
        evaluate(BreaksInValidation(1), split, device=device, label=label)
    with pytest.raises(TrainingError, match=f"^{re.escape(start)}there are no images to evaluate on"):
        evaluate(BreaksInValidation(1), toy.ToySplit(0, seed=1), device=device, label=label)
