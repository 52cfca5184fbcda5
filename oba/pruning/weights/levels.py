"""Levels of single weights: from the present masks down to one level of ``keep``, in rounds."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from oba import ranks
from oba.models.weight_masks import Masks, apply_masks
from oba.pruning.cut import Cut, Images, Update
from oba.pruning.descent import DESCENTS
from oba.pruning.plan import Plan
from oba.pruning.statistics import mean_loss
from oba.pruning.weights.problem import WeightAllocation, WeightProblem
from oba.pruning.weights.prunable import count_weights
from oba.records import Round

ScoreWeights = Callable[[nn.Module, Masks], Mapping[str, Tensor]]
"""Scores the weights that masks name; those that are gone may have any score."""


@dataclass(frozen=True)
class WeightSteps:
    """How a method goes down to a level, besides scoring.

    Attributes:
        allocation: How much goes where.
        update: How the survivors adjust.
        rounds: Times that weights are scored again on the way.
        descent: How the rounds step down.
    """

    allocation: WeightAllocation
    update: Update
    rounds: int
    descent: str = "linear"


def mask_to_level(
    model: nn.Module, masks: Masks, *, score: ScoreWeights, steps: WeightSteps, images: Images, keep: float
) -> tuple[Masks, list[Round]]:
    """Set weights of a net to 0 until a level is reached; each round scores again what the last one left.

    A level that the allocation does not allow is refused (``BudgetError``) before anything is scored.

    Args:
        model: The net; its weights are masked and adjusted in place.
        masks: What is kept of its weights now.
        score: Called once per round.
        steps: Allocation, update, rounds and descent.
        images: The calibration images.
        keep: Fraction of the weights to keep, those that are gone counted in.

    Returns:
        The new masks, and a record of each round; the net's MACs, counted as if it were dense, stay.
    """
    steps.allocation.require({name: mask.shape for name, mask in masks.items()}, keep)
    counts = count_weights(masks)
    start = counts.fraction
    records: list[Round] = []
    loss = mean_loss(model, images)
    for number in range(1, steps.rounds + 1):
        began = time.perf_counter()
        scores = score(model, masks)
        seconds = time.perf_counter() - began
        problem = WeightProblem(scores, masks, DESCENTS[steps.descent](start, keep, number / steps.rounds))
        masks = steps.allocation.select(problem)
        ranks.broadcast_tensors(masks.values())
        before = copy.deepcopy(model)
        apply_masks(model, masks)
        steps.update.adjust(Cut(before, model, (), {}, Plan()), images)
        ranks.broadcast_tensors(model.state_dict().values())
        had, counts = sum(counts.kept.values()), count_weights(masks)
        previous, loss = loss, mean_loss(model, images)
        records.append(
            Round(
                keep=problem.keep,
                macs_kept=1.0,
                weights_kept=counts.fraction,
                removed=had - sum(counts.kept.values()),
                kept=counts.kept,
                scoring_seconds=seconds,
                predicted=None,
                loss_before=previous,
                loss_after=loss,
            )
        )
    return masks, records


def emptied_layers(masks: Masks) -> list[str]:
    """Name the layers of which nothing is left.

    Args:
        masks: What is kept.

    Returns:
        One line per layer.
    """
    return [
        f"layer {name.removesuffix('.weight')!r} keeps none of its {kept.numel():,} weights"
        for name, kept in masks.items()
        if not kept.any()
    ]
