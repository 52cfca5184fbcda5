"""How the survivors adjust: what one round cut, and the interface of an update.

A file ``oba/pruning/update/my_name.py`` that defines ``UPDATE``, a subclass of :class:`Update`, adds the update
``my-name``; nothing else has to be changed. Its options are the fields of the class that it is generic in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from oba import ranks
from oba.curvature.unfold import MatrixLayer, group_count, matrix_layer
from oba.options import Configured, O, checked_options, part
from oba.pruning.layers import axes
from oba.pruning.plan import Plan
from oba.structures import IN, StructureGroup

Images = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""Goes once through the calibration images: batches of inputs (N, C, H, W) and class numbers (N,), on the device."""


@dataclass(frozen=True)
class Inputs:
    """This rank's calibration images without their classes; goes through them once more each time it is iterated."""

    images: Images

    def __iter__(self) -> Iterator[Tensor]:
        """Yield batches of inputs."""
        return (inputs for inputs, _ in ranks.own(self.images()))


def _nothing() -> None:
    """Save nothing."""


@dataclass(frozen=True)
class Adjusted:
    """The layers of a cut net that an update is done with, where it changes one after another for a long time.

    Attributes:
        names: The layers, in order. An update that goes on after a kill finds some here and leaves them as they are.
        save: Called after each layer.
    """

    names: list[str] = field(default_factory=list)
    save: Callable[[], None] = _nothing

    def add(self, name: str) -> None:
        """Note that a layer is done."""
        self.names.append(name)
        self.save()


@dataclass(frozen=True)
class Cut:
    """What one round removed.

    Attributes:
        before: The net before the round; left as found.
        after: The net without what was removed, with the other weights of ``before``; an update changes it in place.
        groups: Groups of structures, in the coordinates of ``before``.
        removed: Indices of the structures that went, by group.
        plan: What is left of ``before``, by layer and axis.
        adjusted: The layers of ``after`` that are adjusted already.
    """

    before: nn.Module
    after: nn.Module
    groups: Sequence[StructureGroup]
    removed: Mapping[str, Sequence[int]]
    plan: Plan
    adjusted: Adjusted = field(default_factory=Adjusted)

    def consumers(self, *, grouped: bool = False) -> dict[str, MatrixLayer]:
        """Return the Conv and Linear layers of ``before`` of whose inputs some went.

        Args:
            grouped: Whether grouped convolutions are among them. Their groups go whole, so what stays is computed from
                the same inputs as before.

        Returns:
            The layers by name.
        """
        layers = {name: self.before.get_submodule(name) for name, axis in self.plan.axes if axis == IN}
        return {
            name: layer
            for name, layer in layers.items()
            if isinstance(layer, MatrixLayer) and (grouped or group_count(layer) == 1)
        }

    def kept(self, layer: str, axis: str) -> Tensor:
        """Return the positions of an axis of a Conv or Linear layer of ``before`` that stayed.

        Args:
            layer: The layer's name.
            axis: ``"out"`` or ``"in"``.

        Returns:
            Increasing, int64, on the layer's device.
        """
        module = matrix_layer(self.before, layer)
        kept = self.plan.axes.get((layer, axis))
        positions = range(axes(module)[axis]) if kept is None else kept.positions
        return torch.tensor(positions, device=module.weight.device)


class Update(Configured[O], ABC):
    """One way to adjust what is left to what went."""

    @abstractmethod
    def adjust(self, cut: Cut, images: Images) -> None:
        """Change the weights or statistics of ``cut.after``.

        Args:
            cut: What was removed.
            images: The calibration images.
        """


def make_update(name: str, **options: object) -> Update:
    """Return a registered update.

    Args:
        name: Its name, with dashes.
        **options: Its own options; those not given have their defaults.

    Returns:
        The update.
    """
    entry: Any = part("update", name)
    return entry(checked_options(entry, f"update {name!r}", options))
