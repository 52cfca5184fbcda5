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
from oba.pruning.rounds import Chosen, Rounds, restore
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
    model: nn.Module,
    masks: Masks,
    *,
    score: ScoreWeights,
    steps: WeightSteps,
    images: Images,
    keep: float,
    rounds: Rounds | None = None,
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
        rounds: Where rounds are saved: those that a killed call has done are not done again.

    Returns:
        The new masks, and a record of each round; the net's MACs, counted as if it were dense, stay.
    """
    steps.allocation.require({name: mask.shape for name, mask in masks.items()}, keep)
    counts = count_weights(masks)
    start, left = counts.fraction, sum(counts.kept.values())
    rounds = rounds or Rounds()
    done = rounds.load()
    restore(model, done.weights)
    if done.masks:
        masks = {name: done.masks[name].to(mask.device) for name, mask in masks.items()}
    if done.records:
        loss, left = done.records[-1].loss_after, sum(done.records[-1].kept.values())
    else:
        loss = mean_loss(model, images)
    for number in range(len(done.records) + 1, steps.rounds + 1):
        target = DESCENTS[steps.descent](start, keep, number / steps.rounds)
        if done.chosen is None:
            began = time.perf_counter()
            scores = score(model, masks)
            seconds = time.perf_counter() - began
            masks = steps.allocation.select(WeightProblem(scores, masks, target))
            ranks.broadcast_tensors(masks.values())
            done.masks, done.chosen = dict(masks), Chosen(seconds=seconds)
            rounds.save(done, model)
        before = copy.deepcopy(model)
        apply_masks(model, masks)
        steps.update.adjust(Cut(before, model, (), {}, Plan()), images)
        ranks.broadcast_tensors(model.state_dict().values())
        had, counts = left, count_weights(masks)
        left = sum(counts.kept.values())
        previous, loss = loss, mean_loss(model, images)
        done.records.append(
            Round(
                keep=target,
                macs_kept=1.0,
                weights_kept=counts.fraction,
                removed=had - left,
                kept=counts.kept,
                scoring_seconds=done.chosen.seconds,
                predicted=None,
                loss_before=previous,
                loss_after=loss,
            )
        )
        done.chosen = None
        rounds.save(done, model)
    return masks, done.records


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
