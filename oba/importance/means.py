"""Weighted means of tensors by name, over the batches of all ranks: where every sum over batches ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from oba import ranks


class Means:
    """Added up online in float64, on the tensors' device.

    Attributes:
        weight: The weights' sum; that of all ranks once the means were asked for.
    """

    def __init__(self) -> None:
        self._totals: dict[str, Tensor] = {}
        self.weight = 0

    def add(self, tensors: Iterable[tuple[str, Tensor]], weight: int) -> None:
        """Add what one batch says.

        Args:
            tensors: By name, taken one by one.
            weight: The batch's weight, such as its number of examples.
        """
        self.weight += weight
        for name, tensor in tensors:
            total = self._totals.setdefault(name, torch.zeros_like(tensor, dtype=torch.float64))
            total.add_(tensor, alpha=weight)

    def means(self) -> Iterator[tuple[str, Tensor]]:
        """Hand over the means, one by one so that not all are in memory twice; nothing is kept.

        Returns:
            Names and means over the batches of all ranks, float64, in the first rank's order.
        """
        # A rank may have had no batch; it learns from the first, which always has one, what there is to add up.
        kinds = ranks.broadcast({name: (total.shape, total.device.type) for name, total in self._totals.items()})
        totals = {
            name: self._totals.pop(name) if name in self._totals else torch.zeros(shape, dtype=torch.float64, device=on)
            for name, (shape, on) in kinds.items()
        }
        self.weight = ranks.total(self.weight)
        ranks.sum_over_ranks(totals.values())
        return ((name, totals.pop(name).div_(self.weight)) for name in kinds)
