r"""Size of the weights ``magnitude`` (Han et al., NeurIPS 2015; Li et al., ICLR 2017).

.. math:: s_i = |\theta_i| \quad\text{(l1)}, \qquad s_i = \theta_i^2 \quad\text{(l2)}
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from oba.importance.batches import Batch
from oba.importance.criterion import Criterion, SliceOptions


class MagnitudeOptions(SliceOptions):
    """Options of ``magnitude``."""

    magnitude: Literal["l1", "l2"] = "l1"
    """What is added up: absolute values or squares."""


class Magnitude(Criterion[MagnitudeOptions]):
    """``|θ_i|`` or ``θ_i²`` of every parameter; needs no data."""

    needs_data = False

    def parameter_scores(self, model: nn.Module, batch: Batch | None) -> dict[str, Tensor]:
        """Score every parameter element."""
        measure = Tensor.abs if self.options.magnitude == "l1" else Tensor.square
        return {name: measure(parameter.detach()) for name, parameter in model.named_parameters()}


CRITERION = Magnitude
