r"""Prices of structures: what selection ranks, given what is already gone.

With the scores s of a :class:`~oba.importance.scores.StructureScores` and its interactions H, removing c on top of what
is gone costs the marginal :math:`s_c + \sum_{d \text{ gone}} H_{cd}`. A list of scores is the case without H, in which
no price ever changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np
from torch import Tensor

from oba.errors import ScoreError
from oba.importance.scores import StructureScores
from oba.structures import StructureGroup

_ASYMMETRY = 1e-6
"""By how much H and its transpose may differ, as a fraction of the largest entry: Hessian-vector products round."""


class Prices:
    """Marginal prices of the structures of a net, kept up to date while structures go."""

    def __init__(self, groups: Sequence[StructureGroup], scores: StructureScores) -> None:
        """Check scores and bring them into the order of the groups.

        Args:
            groups: The groups that are priced.
            scores: Of exactly these groups, in any order; left as found.

        Raises:
            ScoreError: If scores are missing, too many, of the wrong shape or not finite; if interactions are of the
                wrong shape, not finite or not symmetric.
        """
        if extra := sorted(scores.alone.keys() - {g.name for g in groups}):
            raise ScoreError(f"scores of groups that are not there: {', '.join(map(repr, extra))}")
        alone = [_checked(g, scores.alone.get(g.name)) for g in groups]
        self._places = _places({g.name: len(g) for g in groups})
        self._marginals = np.concatenate([np.empty(0), *(s.numpy() for s in alone)])
        self._interactions: np.ndarray | None = None
        if scores.interactions is not None:
            self._interactions = self._ordered(_symmetric(scores.interactions, self._marginals.size), scores)

    @property
    def interact(self) -> bool:
        """Whether the prices of other structures change when some go."""
        return self._interactions is not None

    def marginals(self, group: str) -> np.ndarray:
        """Return what each structure of a group costs on top of what is gone.

        Args:
            group: Name of the group.

        Returns:
            Shape (structures,), float64; infinite for structures that are gone. A copy.
        """
        return self._marginals[self._places[group]].copy()

    def cheapest(self, group: str, size: int) -> tuple[list[int], float]:
        """Find the block of a group that goes next: its cheapest structure, then the cheapest once that is gone.

        Args:
            group: Name of the group.
            size: Number of structures; so many must be left.

        Returns:
            The structures, of equal ones the first, and what they cost together: their marginals and the
            interactions of all their pairs.
        """
        prices, place = self.marginals(group), self._places[group]
        block, total = [], 0.0
        for _ in range(size):
            index = int(prices.argmin())
            block.append(index)
            total += float(prices[index])
            if self._interactions is not None:
                prices += self._interactions[place.start + index, place]
            prices[index] = np.inf
        return block, total

    def remove(self, group: str, indices: Sequence[int]) -> None:
        """Learn that structures went, in O(N) for each of them.

        Args:
            group: Name of their group.
            indices: Which of its structures.
        """
        for place in (self._places[group].start + i for i in indices):
            if self._interactions is not None:
                self._marginals += self._interactions[place]
            self._marginals[place] = np.inf

    def _ordered(self, interactions: np.ndarray, scores: StructureScores) -> np.ndarray:
        """Bring interactions from the scores' order into that of the groups."""
        theirs = _places({name: len(s) for name, s in scores.alone.items()})
        if theirs == self._places:
            return interactions
        order = np.r_[tuple(theirs[name] for name in self._places)]
        return interactions[np.ix_(order, order)]


def _places(lengths: Mapping[str, int]) -> dict[str, slice]:
    """Return where each group lies when all are put one after another."""
    ends = accumulate(lengths.values(), initial=0)
    return {name: slice(*place) for name, place in zip(lengths, pairwise(ends), strict=True)}


def _checked(group: StructureGroup, scores: Tensor | None) -> Tensor:
    """Return the scores of one group, float64 on the CPU, if they can be ranked."""
    if scores is None or scores.shape != (len(group),):
        found = "none" if scores is None else f"shape {tuple(scores.shape)}"
        raise ScoreError(f"scores of group {group.name!r}: {found}, expected shape ({len(group)},)")
    if not scores.isfinite().all():
        bad = int((~scores.isfinite()).sum())
        raise ScoreError(f"scores of group {group.name!r}: {bad} of {len(group)} are not finite")
    return scores.detach().double().cpu()


def _symmetric(interactions: Tensor, size: int) -> np.ndarray:
    """Return interactions as float64, not copied where they are, if they make sense."""
    if interactions.shape != (size, size):
        raise ScoreError(f"interactions: shape {tuple(interactions.shape)}, expected ({size}, {size})")
    matrix = interactions.detach().double().cpu().numpy()
    largest = max(matrix.max(initial=0), -matrix.min(initial=0))
    # Nothing of the matrix's size is made on the way: with thousands of structures it is hundreds of megabytes.
    if not np.isfinite(largest):
        raise ScoreError(f"interactions: {sum(int((~np.isfinite(row)).sum()) for row in matrix)} are not finite")
    off = max((np.abs(row - column).max() for row, column in zip(matrix, matrix.T, strict=True)), default=0)
    if off > _ASYMMETRY * largest:
        raise ScoreError(f"interactions: not symmetric, entries differ by up to {off:.3g} of {largest:.3g}")
    return matrix
