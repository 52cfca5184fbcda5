"""Scores as the tests compare them with what is computed by hand: before they are normalised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from oba import registry
from oba.importance import score_structures
from oba.options import part
from oba.structures import StructureGroup

CRITERIA = registry.names("criterion")


def own(criterion: str, **options: Any) -> dict[str, Any]:
    """Return those of some options that a criterion has."""
    fields = part("criterion", criterion).options_type.model_fields
    return {key: value for key, value in options.items() if key in fields}


WITH_NORMS = [(name, norm) for name in CRITERIA for norm in (("eval", "train") if own(name, norm="") else ("eval",))]
"""All criteria, with both kinds of statistics where they choose between them."""


def raw_scores(
    model: nn.Module,
    groups: Sequence[StructureGroup],
    batches: Iterable[tuple[Tensor, Any]],
    criterion: str,
    **settings: Any,
) -> Mapping[str, Tensor]:
    return score_structures(model, groups, batches, criterion, **own(criterion, normalizer="none"), **settings).alone
