"""Prices of structures: what selection ranks.

A list of scores is the model whose prices never change (:class:`StaticScores`). A quadratic model, whose
prices depend on what is already gone, answers :meth:`ScoreModel.remove` with the groups to ask again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from oba.errors import ScoreError
from oba.structures import StructureGroup

Normalizer = Literal["max", "mean", "sum", "l2", "none"]


class ScoreModel(Protocol):
    """What removing a structure costs, given what is already gone."""

    def marginals(self, group: str) -> Tensor:
        """Return the current prices of a group's structures.

        Args:
            group: Name of the group.

        Returns:
            Shape (structures,), float64; the entries of structures that are gone mean nothing.
        """
        ...

    def remove(self, group: str, indices: Sequence[int]) -> Collection[str]:
        """Learn that structures went.

        Args:
            group: Name of their group.
            indices: Which of its structures.

        Returns:
            Names of the groups whose prices have changed.
        """
        ...


class StaticScores:
    """Prices that do not depend on what is gone: scores divided by their group's normaliser."""

    def __init__(self, groups: Sequence[StructureGroup], scores: Mapping[str, Tensor], normalizer: Normalizer) -> None:
        """Check and normalise scores.

        Args:
            groups: The groups to be scored.
            scores: Per group a tensor of shape (structures,).
            normalizer: ``max``, ``mean`` or ``sum`` of the group's absolute scores, or their ``l2`` norm,
                or ``none``. A group whose scores are all zero stays zero.

        Raises:
            ScoreError: If scores are missing, of the wrong shape or not finite.
        """
        self._scores: dict[str, Tensor] = {}
        for group in groups:
            score = scores.get(group.name)
            if score is None or score.shape != (len(group),):
                found = "none" if score is None else f"shape {tuple(score.shape)}"
                raise ScoreError(f"scores of group {group.name!r}: {found}, expected shape ({len(group)},)")
            if not score.isfinite().all():
                bad = int((~score.isfinite()).sum())
                raise ScoreError(f"scores of group {group.name!r}: {bad} of {len(group)} are not finite")
            self._scores[group.name] = _normalized(score.detach().double().cpu(), normalizer)

    def marginals(self, group: str) -> Tensor:
        """Return the normalised scores of a group.

        Args:
            group: Name of the group.

        Returns:
            Shape (structures,), float64.
        """
        return self._scores[group]

    def remove(self, group: str, indices: Sequence[int]) -> Collection[str]:
        """Do nothing: no price changes.

        Args:
            group: Name of the group.
            indices: Which of its structures went.

        Returns:
            Nothing to ask again.
        """
        return ()


def _normalized(scores: Tensor, normalizer: Normalizer) -> Tensor:
    """Divide the scores of one group by their normaliser."""
    size = scores.abs()
    match normalizer:
        case "none":
            return scores
        case "max":
            by = size.max()
        case "mean":
            by = size.mean()
        case "sum":
            by = size.sum()
        case "l2":
            by = torch.linalg.vector_norm(scores)
    return scores / by if by > 0 else scores
