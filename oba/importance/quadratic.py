"""The loss as a quadratic function of the structures' masks: what ``oba-diag`` and ``oba-joint`` share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import nn

from oba.curvature.example_rows import MixedExamplesError
from oba.importance.batches import Batch, plain_cross_entropy
from oba.importance.criterion import Criterion, DataOptions
from oba.importance.hessians import GaussNewton, MaskHessian, coupling_norm, require_independent
from oba.importance.masks import Places, places_of
from oba.options import O
from oba.structures import StructureGroup


class QuadraticOptions(DataOptions):
    """Options of criteria that differentiate twice with respect to masks."""

    samples: Annotated[int, Field(ge=2)] = 16
    """Number of probes, or of classes that Gauss-Newton draws for an image where there are more."""


def require_frozen_norms(hessian: str, norm: str) -> None:
    """Refuse Gauss-Newton where examples depend on each other.

    Args:
        hessian: The option of that name.
        norm: The option of that name.

    Raises:
        ValueError: If the two do not go together.
    """
    if hessian == "gauss-newton" and norm == "train":
        raise ValueError(
            "hessian 'gauss-newton' needs examples that do not depend on each other, but norm is 'train'; allowed: "
            "norm eval, or another hessian"
        )


class Quadratic(Criterion[O]):
    """A criterion that finds the gradient and Hessian of the loss with respect to masks."""

    in_nats = True

    def __init__(self, options: O, seed: int = 0) -> None:
        super().__init__(options, seed)
        self._mixed = False

    def require(self, model: nn.Module, groups: Sequence[StructureGroup]) -> None:
        """Refuse groups on which no mask can act, and Gauss-Newton where examples depend on each other."""
        places_of(model, groups).require_all()
        if getattr(self.options, "hessian", "auto") == "gauss-newton":
            require_independent(model)

    def _source(
        self, model: nn.Module, places: Places, batch: Batch, hessian: str, samples: int
    ) -> GaussNewton | MaskHessian:
        """Differentiate in the way that is asked for; ``auto`` takes Gauss-Newton where it holds and is cheaper."""
        few = sum(places.sizes.values()) <= samples
        holds = plain_cross_entropy(batch.loss) and not coupling_norm(model) and not self._mixed
        if hessian == "gauss-newton" or (hessian == "auto" and holds and not few):
            try:
                return GaussNewton(model, places, batch, samples, batch.generator(self.seed))
            except MixedExamplesError:
                if hessian != "auto":
                    raise
                self._mixed = True
        return MaskHessian(model, places, batch)
