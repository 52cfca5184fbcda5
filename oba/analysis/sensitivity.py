"""``sensitivity``: what a net loses when one group of structures shrinks and all others stay."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oba.errors import ConfigError, DataError, ModelError
from oba.importance import score_structures
from oba.importance.criterion import Criterion
from oba.models.attention import open_attention
from oba.modes import evaluating
from oba.pruning.cost import CostModel
from oba.pruning.dependencies import find_groups
from oba.pruning.prices import Prices
from oba.pruning.replay import apply_plan, removal_plan
from oba.pruning.statistics import recalibrate_norms
from oba.report.sensitivity import COLUMNS
from oba.structures import ATTENTION, OUT, StructureGroup

KEEP = (0.8, 0.6, 0.4, 0.2)
"""Fractions of each group that are kept unless others are asked for."""
_Batches = Callable[[], Iterator[tuple[Tensor, Tensor]]]


def sensitivity(
    model: nn.Module,
    images: Iterable[tuple[Tensor, Tensor]],
    val: Iterable[tuple[Tensor, Tensor]],
    *,
    keep: Sequence[float] = KEEP,
    criterion: str | Criterion = "magnitude",
    groups: Sequence[StructureGroup] | None = None,
    seed: int = 0,
    tell: Callable[[int, int], object] = lambda done, total: None,
    **options: Any,
) -> pd.DataFrame:
    """Measure a net with each group of structures shrunk alone: the worst go, and norm statistics are measured again.

    Every entry is the net that :func:`oba.prune` makes in one round with the allocation ``given`` and the update
    ``norm``. Nothing is trained, so drops are what fine-tuning would start from, and those of several groups together
    are not their sum.

    Args:
        model: Any image classifier that returns logits (N, classes); left as found.
        images: Calibration images, as for :func:`oba.prune`; they score structures and measure norm statistics.
        val: Images to measure on, in batches like these.
        keep: Fractions of a group that stay, above 0 and at most 1; at least one structure does. With 1 the net is
            measured as it is.
        criterion: A registered criterion, or one that was made before: it says which structures of a group go first.
        groups: What may shrink; everything that could go if not given.
        seed: Seed of all that is drawn.
        tell: Called with the number of entries that are there and that of all, after each.
        **options: The criterion's own options, such as ``norm="train"``.

    Returns:
        One row for each group and fraction, groups in the order of the net, those with a single structure left out:
        ``group``, ``kind``, ``layers`` (whose outputs go), ``structures`` (of the group), ``kept``, ``keep``,
        ``val_top1`` (a fraction), ``drop_points`` (what the whole net has more, in percentage points), ``val_loss``
        (nats per image; missing where not finite), ``macs`` (per image, of the whole net left) and ``macs_kept`` (a
        fraction).

    Raises:
        ConfigError: If a fraction is not possible.
        ModelError: If the net has nothing that could shrink.
    """
    fractions = _checked(keep)
    device = next(model.parameters()).device
    scoring, measuring = _again(images, device, "images"), _again(val, device, "val")
    channels, height, width = next(scoring())[0].shape[1:]
    whole = copy.deepcopy(model)
    if groups is None:
        whole = open_attention(whole)
        groups = find_groups(whole, (channels, height, width))
    shrinking = [group for group in groups if len(group) > 1]
    if not shrinking:
        raise ModelError("sensitivity: the net has no group of two structures or more, so nothing can shrink")
    prices = Prices(groups, score_structures(whole, groups, scoring(), criterion, seed=seed, **options))
    cost = CostModel.of(whole, (channels, height, width))
    top1, loss = _measured(whole, measuring)
    rows = []
    for group in shrinking:
        order, _ = prices.cheapest(group.name, len(group) - 1)
        reached = {len(group): (top1, loss)}
        for fraction in fractions:
            kept = max(1, math.floor(fraction * len(group) + 0.5))
            gone = order[: len(group) - kept]
            if kept not in reached:
                reached[kept] = _measured(_without(whole, group, gone, scoring), measuring)
            macs = cost.macs - cost.saving(group, len(gone))
            rows.append(_row(group, kept, fraction, reached[kept], top1, macs, cost.macs))
            tell(len(rows), len(shrinking) * len(fractions))
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def _checked(keep: Sequence[float]) -> list[float]:
    """Return the fractions, each once and falling."""
    for fraction in keep:
        if not 0 < fraction <= 1:
            raise ConfigError(f"keep: got {fraction!r}; allowed: fractions above 0, at most 1")
    if not keep:
        raise ConfigError("keep: got none; allowed: one or more fractions above 0, at most 1")
    return sorted(set(keep), reverse=True)


def _again(images: Iterable[tuple[Tensor, Tensor]], device: torch.device, name: str) -> _Batches:
    """Return what goes through batches again and again, on a device."""
    kept = list(images) if isinstance(images, Iterator) else images
    if next(iter(kept), None) is None:
        raise DataError(f"{name}: there is no batch; allowed: one or more batches of (inputs, class numbers)")

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for inputs, targets in kept:
            yield inputs.to(device), targets.to(device)

    return batches


def _without(whole: nn.Module, group: StructureGroup, gone: Sequence[int], images: _Batches) -> nn.Module:
    """Return a net that lacks some structures of one group."""
    net = copy.deepcopy(whole)
    apply_plan(net, removal_plan(net, [group], {group.name: gone}))
    recalibrate_norms(net, images)
    return net


@torch.no_grad()
def _measured(net: nn.Module, batches: _Batches) -> tuple[float, float]:
    """Return top-1 accuracy and loss, as :func:`oba.training.evaluation.evaluate` does; a loss need not be finite."""
    totals, images = torch.zeros(2, dtype=torch.float64), 0
    with evaluating(net):
        for inputs, targets in batches():
            logits = net(inputs).float()
            hits = logits.topk(min(5, logits.shape[1])).indices[:, 0] == targets
            loss = F.cross_entropy(logits, targets, reduction="sum")
            totals = totals.to(logits.device) + torch.stack([hits.sum(), loss])
            images += len(targets)
    top1, loss = (totals / images).tolist()
    return top1, loss if math.isfinite(loss) else math.nan


def _row(
    group: StructureGroup, kept: int, keep: float, reached: tuple[float, float], top1: float, macs: int, of: int
) -> dict[str, Any]:
    layers = dict.fromkeys(s.layer for s in group.on_axis(*ATTENTION) or group.on_axis(OUT) or group.slices)
    return {
        "group": group.name,
        "kind": group.kind,
        "layers": " ".join(layers),
        "structures": len(group),
        "kept": kept,
        "keep": keep,
        "val_top1": reached[0],
        "drop_points": 100 * (top1 - reached[0]),
        "val_loss": reached[1],
        "macs": macs,
        "macs_kept": macs / of,
    }
