"""Pruning any net in a few lines, by the same way as the pipeline's ``prune`` stage."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from oba.config import MethodConfig
from oba.errors import ConfigError, DataError
from oba.importance import StructureScores, score_structures
from oba.importance.weights import weight_scores
from oba.models.attention import open_attention
from oba.models.stored import ModelCard, save_pruned
from oba.models.weight_masks import Masks
from oba.pruning.dependencies import find_groups
from oba.pruning.levels import Steps, prune_to_level
from oba.pruning.method import Method
from oba.pruning.plan import Plan
from oba.pruning.weights.levels import mask_to_level
from oba.pruning.weights.prunable import whole_masks
from oba.structures import StructureGroup
from oba.study import parse_method


def prune(
    model: nn.Module,
    images: Iterable[tuple[Tensor, Tensor]],
    *,
    keep: float,
    method: str | Mapping[str, Any] | MethodConfig = "oba",
    ignore: Iterable[str] = (),
    channels: bool = True,
    residual_streams: bool = False,
    heads: bool = True,
    head_dims: bool = False,
    seed: int = 0,
    save: str | Path | None = None,
) -> nn.Module:
    """Prune a copy of a net to a fraction of its multiply-accumulates, or of its weights.

    Args:
        model: Any image classifier that returns logits (N, classes); left as found.
        images: Calibration images: batches of inputs (N, C, H, W), normalised as the net expects them, and class
            numbers (N,), such as a ``DataLoader`` or a list.
        keep: Fraction to keep, between 0 and 1: of the MACs, or of the weights by a method with
            ``"granularity": "weights"``, which sets the others to 0.
        method: A criterion's name, or what a study's ``methods`` may hold: ``{"criterion": "reconstruction",
            "allocation": "uniform", "update": "least-squares"}``.
        ignore: Layers whose outputs, and weights, stay whole: names of modules, or patterns such as ``layer3.*``.
        channels: Whether channels and neurons inside of blocks may go.
        residual_streams: Whether channels of residual streams may.
        heads: Whether attention heads may.
        head_dims: Whether dimensions of attention may, alike in all heads.
        seed: Seed of all that is drawn.
        save: Folder to write the pruned net to, as plan and weights: :func:`oba.load_pruned` reads it again. Only
            there are the masks of single weights told apart from weights that happen to be 0.

    Returns:
        The pruned net, in the mode and on the device of ``model``; attention is of :mod:`oba.models.attention`.

    Raises:
        ConfigError: If ``keep`` or the method is not possible.

    Example:
        >>> model = torchvision.models.resnet18(num_classes=10)
        >>> images = [(torch.randn(8, 3, 64, 64), torch.randint(10, (8,))) for _ in range(2)]
        >>> small = prune(model, images, keep=0.5, method={"criterion": "taylor", "rounds": 1})
        >>> small(images[0][0]).shape
        torch.Size([8, 10])
    """
    if not 0 < keep < 1:
        raise ConfigError(f"keep: got {keep!r}; allowed: a fraction between 0 and 1")
    config = method if isinstance(method, MethodConfig) else parse_method(method)
    made, batches = Method.of(config), _Batches(model, images)
    pruned, plan, masks = open_attention(copy.deepcopy(model)), Plan(), None
    if isinstance(made.steps, Steps):

        def score(net: nn.Module, current: list[StructureGroup]) -> StructureScores:
            return score_structures(net, current, batches(), made.criterion(seed))

        groups = find_groups(
            pruned,
            batches.input_size,
            ignore=tuple(ignore),
            channels=channels,
            residual_streams=residual_streams,
            heads=heads,
            head_dims=head_dims,
        )
        plan, _ = prune_to_level(
            pruned,
            groups,
            plan,
            score=score,
            steps=made.steps,
            images=batches,
            keep=keep,
            input_size=batches.input_size,
        )
    else:

        def score_weights(net: nn.Module, current: Masks) -> dict[str, Tensor]:
            return weight_scores(net, current, batches(), made.criterion(seed))

        masks, _ = mask_to_level(
            pruned, whole_masks(pruned, ignore), score=score_weights, steps=made.steps, images=batches, keep=keep
        )
    if save is not None:
        card = ModelCard(type(model).__name__, batches.classes, batches.input_size, (), (), ())
        save_pruned(Path(save), pruned, card, plan, masks)
    return pruned


def score(
    model: nn.Module,
    images: Iterable[tuple[Tensor, Tensor]],
    criterion: str = "oba",
    *,
    groups: list[StructureGroup] | None = None,
    seed: int = 0,
    **options: Any,
) -> StructureScores:
    """Score the structures of a net that could go, one by one and, where the criterion knows, together.

    Args:
        model: Any image classifier; left as found. Attention heads are scored if :func:`oba.open_attention` has been
            applied to it.
        images: As for :func:`prune`.
        criterion: A registered criterion.
        groups: What is to be scored; everything that could go if not given.
        seed: Seed of all that is drawn.
        **options: The criterion's own options, such as ``norm="train"``.

    Returns:
        Scores by group, comparable between groups; the lowest goes first.
    """
    batches = _Batches(model, images)
    found = groups if groups is not None else find_groups(model, batches.input_size)
    return score_structures(model, found, batches(), criterion, seed=seed, **options)


class _Batches:
    """Batches that can be gone through again and again, on a net's device."""

    def __init__(self, model: nn.Module, images: Iterable[tuple[Tensor, Tensor]]) -> None:
        self._images = list(images) if isinstance(images, Iterator) else images
        self._device = next(model.parameters()).device
        first = next(iter(self._images), None)
        if first is None:
            raise DataError("images: there is no batch; allowed: one or more batches of (inputs, class numbers)")
        channels, height, width = first[0].shape[1:]
        self.input_size = (channels, height, width)
        self.classes = int(first[1].max()) + 1

    def __call__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for inputs, targets in self._images:
            yield inputs.to(self._device), targets.to(self._device)
