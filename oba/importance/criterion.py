"""What a criterion is: the interface that every file in ``oba/importance/criteria`` implements.

A file ``oba/importance/criteria/my_name.py`` that defines ``CRITERION``, a subclass of :class:`Criterion`, adds the
criterion ``my-name``; nothing else has to be changed. A criterion scores one batch at a time; batches are weighted,
and joined over layers, by :mod:`oba.importance.parameters` and :mod:`oba.importance.structures`.

Three levels, each with a default made from the one before, so that a criterion implements the first that it has a
better way for:

1. ``parameter_scores``: a signed score for every parameter element;
2. ``channel_scores``: their sums over all weights of an output (with its bias) or input channel of a layer;
3. ``structure_scores``: for every group one row of scores for each coupled layer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from oba import registry
from oba.errors import ConfigError, ScoreError
from oba.importance.batches import Batch
from oba.importance.slices import Channels, LayerSlice, channel_sums
from oba.structures import StructureGroup

MAGNITUDES = ("l1", "l2")
"""What `magnitude` adds up: absolute values or squares."""
HESSIANS = ("auto", "exact", "gauss-newton", "probes")
"""Ways of `oba-diag` and `oba-joint` to the Hessian with respect to masks: see :mod:`oba.importance.hessians`."""


@dataclass(frozen=True)
class Options:
    """Settings of criteria; each uses its own and ignores the others.

    Attributes:
        order: Order k of ``oba-exact``.
        magnitude: ``"l1"`` or ``"l2"``.
        hessian: One of :data:`HESSIANS`.
        samples: Number of random probes, or of classes that Gauss–Newton draws for an example where there are more.
        seed: Seed of what is drawn at random.
    """

    order: int = 2
    magnitude: str = "l1"
    hessian: str = "auto"
    samples: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.order < 1:
            raise ConfigError(f"order: {self.order} is out of range; allowed: 1 or more")
        if self.magnitude not in MAGNITUDES:
            raise ConfigError(f"magnitude: {self.magnitude!r} is unknown; allowed: {', '.join(MAGNITUDES)}")
        if self.hessian not in HESSIANS:
            raise ConfigError(f"hessian: {self.hessian!r} is unknown; allowed: {', '.join(HESSIANS)}")
        if self.samples < 2:
            raise ConfigError(f"samples: {self.samples} is out of range; allowed: 2 or more")


@dataclass(frozen=True)
class Target:
    """A group whose structures are to be scored.

    Attributes:
        group: The group with all its slices.
        slices: Its slices of Conv and Linear layers, as far as their sums mean something for this criterion.
    """

    group: StructureGroup
    slices: Sequence[LayerSlice]


@dataclass(frozen=True)
class BatchModel:
    """What one batch says of structures.

    Attributes:
        rows: For each group's name a tensor (rows, structures); rows are joined over layers later.
        interactions: (N, N) over all structures in the order of ``rows``, or None.
        variance: Of each row's estimate, in its shape, where something is drawn at random.
    """

    rows: Mapping[str, Tensor]
    interactions: Tensor | None = None
    variance: Mapping[str, Tensor] | None = None


class Criterion:
    """One way to score; see the module's text.

    Attributes:
        needs_data: Whether scores depend on examples; if not, methods are called once, with ``batch=None``.
        ignores_scale: Whether a filter's scores add up to zero where the loss does not depend on the filter's scale.
        in_nats: Whether scores predict the change of the loss: then they are signed, joined over batches by their mean
            whatever the options of reduction say, and never normalised.
    """

    needs_data: ClassVar[bool] = True
    ignores_scale: ClassVar[bool] = False
    in_nats: ClassVar[bool] = False

    def __init__(self, options: Options) -> None:
        """Take the settings.

        Args:
            options: Settings of all criteria.
        """
        self.options = options

    @property
    def name(self) -> str:
        """The registered name: that of the file."""
        return type(self).__module__.rpartition(".")[2].replace("_", "-")

    def parameter_scores(self, model: nn.Module, batch: Batch | None) -> dict[str, Tensor]:
        """Return signed scores in each parameter's shape, on one batch; parameters without a score are absent.

        Args:
            model: The model, in the mode for scoring.
            batch: The examples; None for a criterion that needs none.

        Raises:
            ScoreError: If the criterion does not score parameters.
        """
        raise ScoreError(f"criterion {self.name!r} scores structures, not parameters; use structure_scores")

    def channel_scores(
        self, model: nn.Module, channels: Collection[Channels], batch: Batch | None
    ) -> Mapping[Channels, Tensor]:
        """Add up the scores of each channel of some layers.

        Args:
            model: The model, in the mode for scoring.
            channels: Pairs of a layer's name and ``"out"`` or ``"in"``.
            batch: The examples; None for a criterion that needs none.

        Returns:
            Signed sums, shape (number of channels,), for each pair whose layer has scores.
        """
        return channel_sums(model, self.parameter_scores(model, batch), channels)

    def structure_scores(self, model: nn.Module, targets: Sequence[Target], batch: Batch | None) -> dict[str, Tensor]:
        """Score structures.

        Args:
            model: The model, in the mode for scoring.
            targets: The groups.
            batch: The examples; None for a criterion that needs none.

        Returns:
            For each group's name a tensor (rows, structures); rows are joined over layers later. A criterion that
            scores structures as such returns one row.

        Raises:
            ScoreError: If no layer of a group has a score.
        """
        pairs = {(s.layer, s.axis): None for target in targets for s in target.slices}
        sums = self.channel_scores(model, pairs, batch)
        rows: dict[str, Tensor] = {}
        for target in targets:
            found = [sums[s.layer, s.axis][s.indices].sum(1) for s in target.slices if (s.layer, s.axis) in sums]
            if not found:
                raise ScoreError(f"group {target.group.name!r}: none of its layers has a score by this criterion")
            rows[target.group.name] = torch.stack(found)
        return rows

    def structure_model(self, model: nn.Module, targets: Sequence[Target], batch: Batch | None) -> BatchModel:
        """Score structures, and say how they interact.

        Args:
            model: The model, in the mode for scoring.
            targets: The groups.
            batch: The examples; None for a criterion that needs none.

        Returns:
            By default the structures' scores alone.
        """
        return BatchModel(self.structure_scores(model, targets, batch))


def load_criterion(name: str, options: Options) -> Criterion:
    """Return a registered criterion.

    Args:
        name: Its name, with dashes.
        options: Settings of all criteria.

    Returns:
        A fresh instance.
    """
    return registry.load("criterion", name).CRITERION(options)
