"""What criteria on masks share: from targets to the places of their masks, and from vectors back to targets."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from oba.importance.criterion import Target
from oba.importance.masks import Places, places_of


def places_of_targets(model: nn.Module, targets: Sequence[Target]) -> Places:
    """Find where the masks of targets act; for criteria that leave no slices out.

    Args:
        model: The model.
        targets: The groups.

    Returns:
        The places: at least one for each group.
    """
    places = places_of(model, [target.group for target in targets], [target.slices for target in targets])
    places.require_all()
    return places


def split(values: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
    """Give each group its part of a vector over all structures.

    Args:
        values: Shape (N,).
        targets: The groups, in order.

    Returns:
        For each group's name one row, shape (1, structures).
    """
    sizes = [len(target.group) for target in targets]
    parts = values.split(sizes)
    return {target.group.name: part.unsqueeze(0) for target, part in zip(targets, parts, strict=True)}
