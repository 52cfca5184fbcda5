r"""Layer-wise reconstruction ``reconstruction``: what goes first changes the next layers' outputs least.

For a layer that takes a group's structures as input, with the Gram matrix A of its unfolded inputs (damped) and the
weight W, the relative error of removing the structures S is what the best weights for the other inputs leave of it,

.. math:: e(S) = \frac{\min_{W'_{:S} = 0} \mathrm{tr}\,(W - W') A (W - W')^T}{\mathrm{tr}\, W A W^T}.

Structures go greedily by the error that each adds (:mod:`oba.curvature.block_obs`). Where several layers take them (a
residual stream), the errors add; each is relative to its own layer's outputs, whose scale a norm behind may undo.

Hassibi and Stork, 1993; for layers, OBC: Frantar and Alistarh, NeurIPS 2022; for structures, ZipLM: Kurtic et al.,
NeurIPS 2023.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from oba.curvature.block_obs import Consumer, consumers_of, greedy_removal
from oba.curvature.grams import input_moments
from oba.curvature.refit import damped
from oba.curvature.unfold import input_columns, matrix_layer, weight_matrix
from oba.errors import ModelError, ScoreError
from oba.importance import masks
from oba.importance.batches import Batch
from oba.importance.criterion import Criterion
from oba.importance.scores import StructureScores
from oba.options import Options
from oba.structures import QUERY_KEY, StructureGroup


class ReconstructionOptions(Options):
    """Options of ``reconstruction``."""

    damping: Annotated[float, Field(ge=0)] = 0.01
    """What is added to the diagonal of a Gram matrix, as a fraction of its mean."""


class Reconstruction(Criterion[ReconstructionOptions]):
    """The cumulated relative error of the consumers' outputs when a structure and all those before it have gone."""

    def require(self, model: nn.Module, groups: Sequence[StructureGroup]) -> None:
        """Refuse structures that no Conv or Linear layer takes as input."""
        for group in groups:
            if group.on_axis(QUERY_KEY):
                raise ScoreError(
                    f"criterion {self.name!r}: group {group.name!r} is no input of a Conv or Linear layer; allowed: "
                    "structures.head_dims: false, or another criterion"
                )
        masks.places_of(model, groups).require_all()

    def score(
        self, model: nn.Module, groups: Sequence[StructureGroup], batches: Iterable[Batch | None]
    ) -> StructureScores:
        """Remove each group's structures one by one.

        Moments of many layers take several passes over the images, which are therefore held while it lasts.

        Args:
            model: The model, in the mode for scoring.
            groups: The groups.
            batches: The examples; targets and loss do not matter.

        Returns:
            For each structure the error when it goes, strictly increasing in the order of removal; as curves the errors
            after 0, 1, … removals.

        Raises:
            ScoreError: If no layer takes a group's structures, or one that does cannot be refitted.
        """
        images = [batch.inputs for batch in batches if batch is not None]
        self.require(model, groups)
        places = masks.places_of(model, groups)
        readers: Mapping[str, list[masks.Consumer]] = defaultdict(list)
        for consumer in places.consumers:
            readers[consumer.group].append(consumer)
        last = {consumer.layer: consumer.group for consumer in places.consumers}
        held: dict[str, Tensor] = {}
        curves: dict[str, Tensor] = {}
        alone: dict[str, Tensor] = {}
        waiting = deque(groups)
        try:
            for layer, moments in input_moments(model, images, list(last)):
                held[layer] = damped(moments.gram, self.options.damping)
                while waiting and all(reader.layer in held for reader in readers[waiting[0].name]):
                    name = waiting.popleft().name
                    read = [c for reader in readers[name] for c in _consumers(model, reader, held[reader.layer])]
                    alone[name], curves[name] = _scores(read)
                    held = {layer: gram for layer, gram in held.items() if last[layer] != name}
        except ModelError as error:
            raise ScoreError(f"criterion {self.name!r}: {error}") from error
        return StructureScores(alone, curves=curves)


def _consumers(model: nn.Module, reader: masks.Consumer, gram: Tensor) -> list[Consumer]:
    """Return a layer with its error relative to its outputs."""
    layer = matrix_layer(model, reader.layer)
    weight = weight_matrix(layer)
    power = float(((weight @ gram) * weight).sum())
    return consumers_of(gram / power if power else gram, weight, list(input_columns(layer, reader.indices)))


def _scores(consumers: Sequence[Consumer]) -> tuple[Tensor, Tensor]:
    """Return scores and errors of one group; equal errors are told apart in their last digit, to keep the order."""
    found = greedy_removal(consumers)
    errors = [0.0]
    for error in found.errors[1:].tolist():
        errors.append(max(error, math.nextafter(errors[-1], math.inf)))
    curve = torch.tensor(errors, dtype=torch.float64)
    return torch.empty_like(curve[1:]).index_copy(0, found.order, curve[1:]), curve


CRITERION = Reconstruction
