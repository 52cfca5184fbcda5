r"""Mask space ``mask-space``: the survivors are scaled to the optimum of the joint quadratic model of the loss.

With δ the change of the structures' masks, -1 for the removed R and free for the kept K, and g and H the gradient and
the Gauss-Newton matrix of the loss at masks of 1 (criterion ``oba-joint``), the model ``gᵀδ + ½ δᵀHδ`` with a damping
has its minimum at

.. math:: \delta_K = -(H_{KK} + \lambda I)^{-1} (g_K - H_{KR} 1).

A mask acts on the inputs of the layers that take a structure, so it is folded into their weights, times 1 + δ. What a
grouped convolution passes on is scaled behind it.

Norms are recalibrated at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from oba.curvature.refit import damped
from oba.importance import score_structures
from oba.importance.masks import places_of
from oba.importance.scores import StructureScores
from oba.models.attention import Attention
from oba.options import Options
from oba.pruning.cut import Cut, Images, Update
from oba.pruning.plan import restrict
from oba.pruning.statistics import recalibrate_norms
from oba.structures import QUERY_KEY, StructureGroup


class MaskSpaceOptions(Options):
    """Options of ``mask-space``."""

    damping: Annotated[float, Field(ge=0)] = 0.1
    """λ as a fraction of the mean of diag H_KK: how strongly masks are held at 1."""


class MaskSpace(Update[MaskSpaceOptions]):
    """Scales what the kept structures pass on, then recalibrates the norms."""

    def adjust(self, cut: Cut, images: Images) -> None:
        """Solve for the masks and fold them in; where nothing went, nothing is scaled.

        H is that of Gauss-Newton because the model then has a minimum wherever the net is; it takes N² numbers for N
        structures, and with more than 16 classes is estimated by drawing as many (from a fixed seed).

        Args:
            cut: What was removed.
            images: The calibration images.

        Raises:
            ScoreError: If a structure cannot be masked, or Gauss-Newton does not hold for the net.
        """
        if any(cut.removed.values()):
            self._scale(cut, images)
        recalibrate_norms(cut.after, images)

    def _scale(self, cut: Cut, images: Images) -> None:
        scores = score_structures(cut.before, cut.groups, images(), "oba-joint", hessian="gauss-newton")
        left, origin = restrict(cut.groups, cut.plan)
        steps = mask_steps(scores, origin, self.options.damping)
        _fold(cut.after, {group.name: 1 + steps[group.name] for group in left}, left)


def mask_steps(scores: StructureScores, kept: Mapping[str, Sequence[int]], damping: float) -> dict[str, Tensor]:
    """Return the steps of the kept structures' masks to the minimum of the model.

    Args:
        scores: Of ``oba-joint``: ``½ diag H - g`` alone, and H.
        kept: Indices of the structures that stay, by group; a group that goes whole is absent.
        damping: λ as a fraction of the mean of diag H_KK.

    Returns:
        δ_K by group, float64, shape (kept structures,).
    """
    hessian = scores.interactions
    assert hessian is not None
    diagonal = hessian.diagonal()
    gradient = diagonal / 2 - torch.cat(list(scores.alone.values()))
    stays = torch.cat([
        torch.zeros(len(alone), dtype=torch.bool).index_fill(
            0, torch.tensor(kept.get(name, ()), dtype=torch.long), True
        )
        for name, alone in scores.alone.items()
    ])
    slope = gradient[stays] - hessian[stays][:, ~stays].sum(1)
    factor = torch.linalg.cholesky(damped(hessian[stays][:, stays], damping))
    steps = torch.cholesky_solve(-slope[:, None], factor)[:, 0]
    names = [name for name in scores.alone if name in kept]
    return dict(zip(names, steps.split([len(kept[name]) for name in names]), strict=True))


@torch.no_grad()
def _fold(model: nn.Module, masks: Mapping[str, Tensor], groups: Sequence[StructureGroup]) -> None:
    """Multiply masks into the weights of the layers that take the structures, or into attention's queries."""
    for group in groups:
        for s in group.on_axis(QUERY_KEY):
            attention = model.get_submodule(s.layer)
            assert isinstance(attention, Attention)
            attention.scale_queries(masks[group.name])
    for consumer in places_of(model, [g for g in groups if not g.on_axis(QUERY_KEY)]).consumers:
        weight = model.get_submodule(consumer.layer).weight
        assert isinstance(weight, Tensor)
        factor = weight.new_ones(weight.shape[1])
        factor[consumer.indices] = masks[consumer.group].to(weight)[:, None]
        weight *= factor.view(-1, *[1] * (weight.dim() - 2))


UPDATE = MaskSpace
