"""Derivatives of the loss along the parameters themselves, of any order: what ``taylor`` and ``oba-exact`` share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from torch import Tensor, nn

from oba.curvature import (
    Arithmetic,
    Watch,
    channel_gradients,
    channel_self_product,
    differentiable_attention,
    layer_parameters,
    nested_gradient,
    self_product,
)
from oba.errors import ScoreError
from oba.importance.batches import Batch
from oba.importance.criterion import Criterion
from oba.importance.differentiated import ChannelSums, differentiated_sums, times_values
from oba.importance.slices import Channels
from oba.options import O

_Scores = TypeVar("_Scores")
_CHANNELS: dict[int, ChannelSums] = {1: channel_gradients, 2: channel_self_product}
"""The quick ways to sums over channels, by order."""


class Expansion(Criterion[O]):
    """``θ_i Σ ∂^k L/∂θ_i∂θ_{i2}… θ_{i2}…`` of order k on all trainable parameters; frozen parameters are constants.

    Orders 1 and 2 have quick ways; a model that they cannot see through is scored by nested differentiation. Operations
    that PyTorch cannot differentiate so often run as arithmetic (:mod:`oba.curvature.arithmetic`).

    Attributes:
        order: Number of differentiations k.
    """

    ignores_scale = True
    order: int

    def __init__(self, options: O, seed: int = 0) -> None:
        super().__init__(options, seed)
        self._nested_only = False

    def parameter_scores(self, model: nn.Module, batch: Batch | None) -> dict[str, Tensor]:
        """Score every trainable parameter element on one batch."""
        assert batch is not None

        def quick() -> dict[str, Tensor]:
            return times_values(model, self_product(model, batch.inputs, batch.loss_of, _trainable(model)))

        return self._either(quick if self.order == 2 else None, lambda: self._nested(model, batch))

    def channel_scores(
        self, model: nn.Module, channels: Collection[Channels], batch: Batch | None
    ) -> Mapping[Channels, Tensor]:
        """Add up the scores of each channel of some layers, without gradients of weights where possible."""
        assert batch is not None

        def quick() -> Mapping[Channels, Tensor]:
            names = _trainable(model)
            if self.order == 1:  # no other parameter counts then
                names = [name for name in layer_parameters(model) if name in names]
            return differentiated_sums(model, channels, batch, names, _CHANNELS[self.order])

        general = super().channel_scores
        return self._either(quick if self.order in _CHANNELS else None, lambda: general(model, channels, batch))

    def _either(self, quick: Callable[[], _Scores] | None, general: Callable[[], _Scores]) -> _Scores:
        """Go the quick way; where it fails go the general one, from then on, and let that one's error count."""
        if quick is not None and not self._nested_only:
            try:
                return quick()
            except ScoreError:
                self._nested_only = True
        return general()

    def _nested(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Score by nested differentiation, at any order."""
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        values = {name: p.detach() for name, p in trainable.items()}
        with Watch(model) as watch, differentiable_attention():
            with watch.explain("the forward pass"), Arithmetic(self.order):
                outputs = model(batch.inputs.clone())
            value = batch.loss_of(outputs)
            if not value.requires_grad:
                raise ScoreError("the loss does not depend on any trainable parameter")
            with watch.explain(f"the derivative of order {self.order}"):
                found = nested_gradient(value, list(trainable.values()), list(values.values()), self.order)
        derivatives = dict(zip(trainable, found, strict=True))
        del found
        return times_values(model, derivatives)


def _trainable(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]
