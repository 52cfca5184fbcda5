"""What a criterion is: the interface that every file in ``oba/importance/criteria`` implements.

A file ``oba/importance/criteria/my_name.py`` that defines ``CRITERION``, a subclass of :class:`Criterion`, adds the
criterion ``my-name``; nothing else has to be changed. Its options are the fields of the class that it is generic in.

Four levels, each with a default made from the one before, so that a criterion implements the first that it has a
better way for:

1. ``parameter_scores``: a signed score for every parameter element, on one batch;
2. ``channel_scores``: their sums over all weights of an output (with its bias) or input channel of a layer;
3. ``batch_scores``: for every group one row of scores for each coupled layer, and perhaps interactions;
4. ``score``: one score for every structure, from all batches (:mod:`oba.importance.joining`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from oba.errors import ScoreError
from oba.importance.batches import Batch
from oba.importance.scores import StructureScores
from oba.importance.slices import Channels, LayerSlice, channel_sums
from oba.options import Configured, For, O, Options, checked_options, part
from oba.structures import StructureGroup


class DataOptions(Options):
    """Options of criteria that look at examples."""

    norm: Literal["eval", "train"] = "eval"
    """Statistics that batch and instance norms use: frozen (`eval`) or of the batch (`train`, as in the paper)."""


class GroupOptions(Options):
    """Options of criteria whose scores mean something only within a group, until they are normalised."""

    normalizer: Annotated[Literal["max", "mean", "sum", "l2", "none"], For("structures")] = "max"
    """What a group's scores are divided by, so that groups can be compared; `max` is the paper's."""


class SliceOptions(GroupOptions):
    """Options of criteria that score the slices of a structure in its coupled layers one by one."""

    over_layers: Annotated[Literal["mean", "sum"], For("structures")] = "mean"
    """How the scores of a structure's slices are joined; `mean` is the paper's."""


class DerivativeOptions(DataOptions, SliceOptions):
    """Options of criteria that add up signed scores of weights, batch by batch."""

    over_batches: Literal["abs-of-mean", "mean-of-abs", "rms"] = "abs-of-mean"
    """How the signed scores of a weight, or their sums over a slice, are joined over batches; `abs-of-mean` is the
    paper's."""
    add_magnitude: Annotated[bool, For("weights")] = False
    """Whether the size of the weight is added to its score, divided by the largest of the net (the authors' remedy for
    vanishing gradients)."""


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
class BatchScores:
    """What one batch says of structures.

    Attributes:
        rows: For each group's name a tensor (rows, structures); rows are joined over layers later.
        interactions: (N, N) over all structures in the order of ``rows``, or None.
        variance: Of each row's estimate, in its shape, where something is drawn at random.
    """

    rows: Mapping[str, Tensor]
    interactions: Tensor | None = None
    variance: Mapping[str, Tensor] | None = None


class Criterion(Configured[O]):
    """One way to score; see the module's text.

    Attributes:
        needs_data: Whether scores depend on examples; if not, methods are called once, with ``batch=None``.
        ignores_scale: Whether a filter's scores add up to zero where the loss does not depend on the filter's scale.
        in_nats: Whether scores predict the change of the loss: then they are signed, and joined by their mean.
    """

    needs_data: ClassVar[bool] = True
    ignores_scale: ClassVar[bool] = False
    in_nats: ClassVar[bool] = False

    def __init__(self, options: O, seed: int = 0) -> None:
        """Take the settings.

        Args:
            options: Of the class that the criterion declares.
            seed: Seed of all that is drawn.
        """
        super().__init__(options)
        self.seed = seed

    @classmethod
    def for_weights(cls) -> bool:
        """Tell whether the criterion scores single weights."""
        return cls.parameter_scores is not Criterion.parameter_scores

    @property
    def norm(self) -> str:
        """Which statistics norms use while scoring."""
        return self.options.norm if isinstance(self.options, DataOptions) else "eval"

    def require(self, model: nn.Module, groups: Sequence[StructureGroup]) -> None:
        """Refuse structures that cannot be scored, where that shows without examples: none by default.

        Args:
            model: The model, in the mode for scoring.
            groups: Its groups of structures.
        """

    def require_weights(self, model: nn.Module, names: Collection[str]) -> None:
        """Refuse single weights that cannot be scored, where that shows without examples: none by default.

        Args:
            model: The model, in the mode for scoring.
            names: Names of its weights.
        """

    def parameter_scores(self, model: nn.Module, batch: Batch | None) -> dict[str, Tensor]:
        """Return signed scores in each parameter's shape, on one batch; parameters without a score are absent.

        Args:
            model: The model, in the mode for scoring.
            batch: The examples; None for a criterion that needs none.

        Raises:
            ScoreError: If the criterion does not score parameters.
        """
        raise ScoreError(f"criterion {self.name!r} scores structures, not parameters; use score_structures")

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

    def batch_scores(self, model: nn.Module, targets: Sequence[Target], batch: Batch | None) -> BatchScores:
        """Score structures on one batch.

        Args:
            model: The model, in the mode for scoring.
            targets: The groups.
            batch: The examples; None for a criterion that needs none.

        Returns:
            By default one row for each slice that has scores. A criterion that scores structures as such returns one.

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
        return BatchScores(rows)

    def score(
        self, model: nn.Module, groups: Sequence[StructureGroup], batches: Iterable[Batch | None]
    ) -> StructureScores:
        """Score structures on all batches.

        Args:
            model: The model, in the mode for scoring.
            groups: The groups.
            batches: The examples, consumed one by one; one None for a criterion that needs none.

        Returns:
            By default the scores of the batches, joined over batches and slices and normalised as the options say.
        """
        from oba.importance.joining import joined

        return joined(self, model, groups, batches)


def make_criterion(name: str, seed: int = 0, **options: object) -> Criterion:
    """Return a registered criterion.

    Args:
        name: Its name, with dashes.
        seed: Seed of all that it draws.
        **options: Its own options; those not given have their defaults.

    Returns:
        A fresh instance.
    """
    entry: Any = part("criterion", name)
    return entry(checked_options(entry, f"criterion {name!r}", options), seed)
