r"""Second moments of a layer's inputs, and of its target outputs with them: all that least squares needs.

With the rows x of the unfolded inputs (one for each image and position) and the wanted outputs y, per group of a
grouped convolution:

.. math:: G = E[x x^T], \quad m = E[x], \qquad C = E[y x^T], \quad \bar y = E[y], \quad p_o = E[y_o^2]

An intercept needs m and ȳ, which are the rows of G and C that a constant input 1 would add.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class InputMoments:
    """Moments of the inputs of a layer, means over rows: images × positions. Times rows / images, they are per image.

    Attributes:
        gram: G, float64, shape (groups, columns, columns).
        mean: m, float64, shape (groups, columns).
        rows: Number of rows.
        images: Number of images.
    """

    gram: Tensor
    mean: Tensor
    rows: int
    images: int

    def keep(self, columns: Tensor) -> InputMoments:
        """Return the moments of some columns.

        Args:
            columns: Their indices, shape (kept,), or (groups, kept) where groups differ.

        Returns:
            The same with these columns only, in this order.
        """
        group, columns = _by_group(columns, len(self.gram))
        gram = self.gram[group[..., None], columns[:, :, None], columns[:, None, :]]
        return InputMoments(gram, self.mean[group, columns], self.rows, self.images)


@dataclass(frozen=True)
class TargetMoments:
    """Moments of the outputs that a layer should have, means over the same rows.

    Attributes:
        cross: C, float64, shape (groups, outputs of a group, columns).
        mean: ȳ, float64, shape (groups, outputs of a group).
        power: p, float64, shape (groups, outputs of a group).
    """

    cross: Tensor
    mean: Tensor
    power: Tensor

    def keep(self, columns: Tensor) -> TargetMoments:
        """Return the moments with some columns of the inputs, see :meth:`InputMoments.keep`."""
        group, columns = _by_group(columns, len(self.cross))
        outputs = torch.arange(self.cross.shape[1], device=columns.device)
        cross = self.cross[group[..., None], outputs[:, None], columns[:, None, :]]
        return TargetMoments(cross, self.mean, self.power)


def own_targets(inputs: InputMoments, weight: Tensor, bias: Tensor | None = None) -> TargetMoments:
    r"""Return the moments of a layer's own outputs, ``y = W x + b``: the target where its inputs did not change.

    .. math:: C = W G + b m^T, \quad \bar y = W m + b, \quad p = \mathrm{diag}(C W^T) + b\,\bar y

    Args:
        inputs: Moments of all its inputs, before any is removed.
        weight: W, float64, shape (groups, outputs of a group, columns), see
            :func:`oba.curvature.unfold.weight_matrix`.
        bias: b, shape (groups, outputs of a group); None without one.

    Returns:
        The moments.
    """
    bias = weight.new_zeros(weight.shape[:2]) if bias is None else bias
    cross = weight @ inputs.gram + bias[..., None] * inputs.mean[:, None]
    mean = (weight @ inputs.mean[..., None])[..., 0] + bias
    return TargetMoments(cross, mean, (cross * weight).sum(-1) + bias * mean)


def _by_group(columns: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Return indices of groups, (groups, 1), and columns of each, (groups, kept)."""
    return torch.arange(groups, device=columns.device)[:, None], columns.expand(groups, -1)
