r"""What scoring hands to selection: a score for every structure, and for some criteria a model of what sets cost.

With the price :math:`s_c` of removing structure c alone and interactions H, removing a set S costs

.. math:: \Delta(S) = \sum_{c \in S} s_c + \sum_{\{c, d\} \subseteq S} H_{cd},

so that c on top of S costs the marginal :math:`s_c + \sum_{d \in S} H_{cd}`. Without interactions a score is a price
that never changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StructureScores:
    """Scores of structures, comparable between groups, and how they change when others go.

    Attributes:
        alone: For each group's name its structures' scores with nothing else gone: (structures,), float64, on the CPU.
        interactions: H over all structures, (N, N), symmetric, float64, on the CPU, in the order of ``alone``; its
            diagonal means nothing. None for a criterion without interactions.
        in_nats: Whether scores predict the change of the loss; then they are signed, and never normalised.
        standard_error: Of ``alone``, where it was estimated from random probes.
        curves: For each group's name the error that is made when its k cheapest structures go, for k = 0, 1, …:
            (structures + 1,), float64, on the CPU; None for a criterion that knows no such error.
    """

    alone: Mapping[str, Tensor]
    interactions: Tensor | None = None
    in_nats: bool = False
    standard_error: Mapping[str, Tensor] | None = None
    curves: Mapping[str, Tensor] | None = None

    def change(self, removed: Mapping[str, Iterable[int]]) -> float:
        """Return what the model says of removing a set.

        Args:
            removed: Indices of structures by group name.

        Returns:
            Δ(S), the sum of the scores and of the interactions of all pairs.
        """
        start, places = 0, []
        for name, scores in self.alone.items():
            places += [start + i for i in removed.get(name, ())]
            start += len(scores)
        total = torch.cat(list(self.alone.values()))[places].sum()
        if self.interactions is not None:
            pairs = self.interactions[places][:, places]
            total = total + pairs.triu(1).sum()
        return total.item()
