r"""Accumulate the moments of :mod:`oba.curvature.moments` over batches of images, for many layers in bounded memory.

Three things take memory, each with a bound: the moments of the layers of one pass (``budget_bytes``; what does not fit
waits for a further pass over the images), the part of a batch that is unfolded at one time (``unfold_bytes``), and, for
pairs of nets, one batch of the dense net's outputs of the layers of a pass.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from oba import ranks
from oba.curvature.moments import InputMoments, TargetMoments
from oba.curvature.running_modules import Watch
from oba.curvature.unfold import (
    MatrixLayer,
    check_matrix,
    matrix_layer,
    output_windows,
    parts,
    rows,
    weight_matrix,
    windows,
)
from oba.errors import ModelError, ScoreError

BUDGET_BYTES = 1 << 30
"""Bytes of the moments that are accumulated in one pass."""
UNFOLD_BYTES = 1 << 26
"""Bytes of the inputs (and outputs) of one layer that are unfolded at one time."""
_PANEL = 512
"""Columns by which a Gram matrix is filled, from the diagonal on: of a wide one, little more than half is computed."""


def input_moments(
    model: nn.Module,
    batches: Iterable[Tensor],
    layers: Sequence[str],
    *,
    channels: Mapping[str, Tensor] | None = None,
    budget_bytes: int = BUDGET_BYTES,
    unfold_bytes: int = UNFOLD_BYTES,
) -> Iterator[tuple[str, InputMoments]]:
    """Yield the moments of the inputs of layers, with one run of the model per batch for as many layers as fit.

    They are those of the batches of all ranks, which go through the layers together.

    Yielded moments belong to the caller alone; those that it still holds come on top of the budget of the next pass.
    Weights that the caller changes between two passes are seen by the later one.

    Args:
        model: The network, on the device of the images and in the mode in which it is to be run (``eval``).
        batches: This rank's images, shape (N, ...) each; iterated once per pass.
        layers: Names of Conv1d, Conv2d, Conv3d and Linear layers.
        channels: Input channels to which a layer's columns are limited; only for layers with one group.
        budget_bytes: Largest size of the moments of one pass; a single layer may exceed it.
        unfold_bytes: Largest size of unfolded inputs; a single line of positions of one image may exceed it.

    Yields:
        Names and moments, in the order of ``layers``.

    Raises:
        ModelError: If a layer is of another kind, or does not run.
        ScoreError: If inputs are not finite.
        ValueError: If ``channels`` are given for a layer with several groups.
    """
    chosen = channels or {}
    sums = {name: _Sums(name, matrix_layer(model, name), unfold_bytes, channels=chosen.get(name)) for name in layers}
    for name, images in _fill(sums, [model], batches, budget_bytes):
        yield name, sums.pop(name).inputs(images)


def paired_moments(
    dense: nn.Module,
    model: nn.Module,
    batches: Iterable[Tensor],
    layers: Sequence[str],
    *,
    outputs: Mapping[str, Tensor] | None = None,
    budget_bytes: int = BUDGET_BYTES,
    unfold_bytes: int = UNFOLD_BYTES,
) -> Iterator[tuple[str, InputMoments, TargetMoments]]:
    """Yield the moments of layers' inputs in one net with their outputs in another: refitting with changed inputs.

    A layer whose inputs changed, because layers before it were pruned, aims at the dense net's outputs on the dense
    net's inputs, and has the pruned net's inputs to make them from. See :func:`input_moments` for the passes and
    memory; one batch of outputs of the dense net comes on top.

    Args:
        dense: The net whose outputs are the targets.
        model: The net whose inputs are the regressors; its layers have the same names and positions.
        batches: This rank's images, shape (N, ...) each; iterated once per pass.
        layers: Names of layers.
        outputs: For layers that have lost outputs: those of the dense net's outputs that they still have, in order.
        budget_bytes: Largest size of the moments of one pass; a single layer may exceed it.
        unfold_bytes: Largest size of unfolded inputs and outputs.

    Yields:
        Names, moments of inputs, moments of targets; in the order of ``layers``.

    Raises:
        ModelError: If a layer is of another kind, or does not run.
        ScoreError: If inputs or outputs are not finite.
    """
    left = outputs or {}
    sums = {}
    for name in layers:
        target = _Target(matrix_layer(dense, name), left.get(name))
        sums[name] = _Sums(name, matrix_layer(model, name), unfold_bytes, target=target)
    for name, images in _fill(sums, [dense, model], batches, budget_bytes):
        yield name, *sums.pop(name).pair(images)


def passes(sizes: Mapping[str, int], budget_bytes: int) -> list[list[str]]:
    """Divide layers into passes over the images.

    Args:
        sizes: Bytes of each layer's moments, in the order of the layers.
        budget_bytes: Largest sum of a pass; a layer that exceeds it alone has a pass of its own.

    Returns:
        The names of each pass, in order.
    """
    found: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if not found or size > room:
            found.append([])
            room = budget_bytes
        found[-1].append(name)
        room -= size
    return found


def _fill(
    sums: Mapping[str, _Sums], models: Sequence[nn.Module], batches: Iterable[Tensor], budget_bytes: int
) -> Iterator[tuple[str, int]]:
    """Run the models over the batches, once per pass; yield the layers whose sums are complete, and how many images."""
    for names in passes({name: layer.size for name, layer in sums.items()}, budget_bytes):
        images = 0
        with torch.no_grad(), ExitStack() as hooks:
            for name in names:
                sums[name].start(hooks)
            watches = [hooks.enter_context(Watch(model)) for model in models]
            for batch in batches:
                for model, watch in zip(models, watches, strict=True):
                    with watch.explain("the forward pass"):
                        model(batch)
                images += len(batch)
        images = ranks.total(images)
        for name in names:
            yield name, images


class _Target:
    """The outputs of the dense net's layer, kept until the same batch runs through the other net."""

    def __init__(self, layer: MatrixLayer, left: Tensor | None) -> None:
        self._layer, self._left = layer, left
        self._outputs: deque[Tensor] = deque()

    def start(self, hooks: ExitStack) -> None:
        hooks.callback(self._layer.register_forward_hook(self._keep, prepend=True).remove)

    def _keep(self, layer: nn.Module, _args: Any, y: Tensor) -> None:
        left = slice(None) if self._left is None else self._left
        # A copy, because an activation may work in place.
        self._outputs.append((y[..., left] if isinstance(layer, nn.Linear) else y[:, left]).clone())

    def take(self) -> Tensor:
        return self._outputs.popleft()


class _Sums:
    """The sums of one layer over rows."""

    def __init__(
        self,
        name: str,
        layer: MatrixLayer,
        unfold_bytes: int,
        channels: Tensor | None = None,
        target: _Target | None = None,
    ) -> None:
        self._name, self._layer, self._limit = name, layer, unfold_bytes
        self._channels, self._source = channels, target
        self._groups, outputs, self._columns = weight_matrix(layer).shape
        self._outputs = 0 if target is None else outputs
        if channels is not None:
            if self._groups > 1:
                raise ValueError(f"layer {name!r} has {self._groups} groups: its channels cannot be limited")
            self._columns = self._columns // layer.weight.shape[1] * len(channels)
        self._panels = [slice(start, start + _PANEL) for start in range(0, self._columns, _PANEL)]
        self._rows = 0

    @property
    def size(self) -> int:
        """Bytes of all sums."""
        columns, outputs = self._columns, self._outputs
        return 8 * self._groups * (columns * (columns + 1) + outputs * (columns + 2))

    def start(self, hooks: ExitStack) -> None:
        """Start at zero, and follow the layer until the hooks go."""
        columns, outputs = self._columns, self._outputs
        shapes = ((columns, columns), (columns,), (outputs, columns), (outputs,), (outputs,))
        like = {"dtype": torch.float64, "device": self._layer.weight.device}
        zeros = (torch.zeros(self._groups, *shape, **like) for shape in shapes)
        self._gram, self._mean, self._cross, self._target, self._power = zeros
        # The first of the hooks, so that the output is the layer's own.
        hooks.callback(self._layer.register_forward_hook(self._add, prepend=True).remove)
        if self._source is not None:
            self._source.start(hooks)

    def _add(self, _layer: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        """Add the rows of one call of the layer."""
        if not self._rows:
            check_matrix(self._name, self._layer, args[0], y)
        seen = windows(self._layer, args[0], self._channels)
        wanted = None if self._source is None else output_windows(self._layer, self._source.take(), self._groups)
        positions = y.dim() - 2 if not isinstance(self._layer, nn.Linear) else 1
        images, lines = seen.shape[1:3]
        line_bytes = 8 * self._groups * seen.shape[3 : 2 + positions].numel() * (self._columns + self._outputs)
        for some, of_them in parts(images, lines, line_bytes, self._limit):
            x = rows(seen[:, some, of_them], positions)
            for panel in self._panels:
                self._gram[:, panel, panel.start :].baddbmm_(x[..., panel].mT, x[..., panel.start :])
            self._mean += x.sum(1)
            self._rows += x.shape[1]
            if wanted is not None:
                target = rows(wanted[:, some, of_them], positions)
                self._cross.baddbmm_(target.mT, x)
                self._target += target.sum(1)
                self._power += torch.linalg.vector_norm(target, dim=1).square()

    def inputs(self, images: int) -> InputMoments:
        self._rows = ranks.total(self._rows)
        ranks.sum_over_ranks([self._gram, self._mean, self._cross, self._target, self._power])
        if not self._rows:
            raise ModelError(f"layer {self._name!r} did not run on any image: its inputs are unknown")
        if not self._gram.diagonal(dim1=-2, dim2=-1).isfinite().all():
            raise ScoreError(f"the inputs of layer {self._name!r} are not finite")
        for panel in self._panels:
            self._gram[:, panel.stop :, panel] = self._gram[:, panel, panel.stop :].mT
        return InputMoments(self._gram.div_(self._rows), self._mean.div_(self._rows), self._rows, images)

    def pair(self, images: int) -> tuple[InputMoments, TargetMoments]:
        inputs = self.inputs(images)
        if not self._power.isfinite().all():
            raise ScoreError(f"the dense net's outputs of layer {self._name!r} are not finite")
        return inputs, TargetMoments(*(total.div_(self._rows) for total in (self._cross, self._target, self._power)))
