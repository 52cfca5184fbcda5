r"""Gradient and Hessian of the loss with respect to the masks of structures (g and H of docs/method.md).

Three ways to H:

- exact rows, :math:`H e_c = \nabla_m (g^T e_c)`, several at once;
- Gauss–Newton from the Jacobians of the logits with respect to the masks of each example, with p the softmax,

  .. math:: H \approx \frac{1}{N} \sum_n J_n^T (\operatorname{diag} p_n - p_n p_n^T) J_n
                = \frac{1}{N} \sum_n \sum_k p_{nk} (J_{nk} - \bar J_n)^T (J_{nk} - \bar J_n), \quad
            \bar J_n = \sum_k p_{nk} J_{nk},

  one backward pass for each class k, or for each of r draws k ~ p_n where there are more classes (then
  :math:`\nabla_m \log p_{nk} = J_{nk} - \bar J_n`, and the mean over draws is unbiased). It holds for cross-entropy and
  norms that do not couple examples;
- probes z = ±1 for the diagonal alone, :math:`E[z \odot Hz]` (Hutchinson; Bekas et al. 2007).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from oba.curvature import Arithmetic, ConstantNorms, Watch, check_differentiable, differentiable_attention
from oba.errors import ScoreError
from oba.importance.batches import Batch, plain_cross_entropy
from oba.importance.examples import ExampleMasks
from oba.importance.logits import draw_classes, require_logits
from oba.importance.masks import Places, multiplied

ROWS_AT_ONCE = 16
"""Hessian-vector products that are computed together."""


class GaussNewton:
    """One batch's Jacobians, as square roots of H.

    Attributes:
        gradient: g, shape (S,).
    """

    def __init__(
        self,
        model: nn.Module,
        places: Places,
        batch: Batch,
        samples: int,
        generator: torch.Generator,
    ) -> None:
        """Differentiate.

        Args:
            model: The model, in the mode for scoring.
            places: Where the masks of S structures act.
            batch: The examples, N of them.
            samples: With more classes than this, as many are drawn for each example.
            generator: Draws them, on the CPU.
        """
        require_gauss_newton(model, batch)
        masks = ExampleMasks(model, places, batch.inputs)
        logits = masks.outputs
        require_logits(logits, "hessian: 'gauss-newton'")
        leaf = logits.detach().requires_grad_()
        (slope,) = torch.autograd.grad(batch.loss_of(leaf), leaf)
        p = logits.detach().softmax(1)
        classes = logits.shape[1]
        self._drawn = classes > samples
        if self._drawn:
            drawn = draw_classes(p, samples, generator)
            logp = logits.log_softmax(1).gather(1, drawn)
            roots = torch.stack([masks.derivative(logp[:, r].sum()) for r in range(samples)]) / samples**0.5
            self.gradient = masks.derivative((slope * logits).sum(), last=True).sum(0)
        else:
            jacobian = torch.stack([masks.derivative(logits[:, k].sum()) for k in range(classes)])
            # What the loss makes of the logits' derivatives: one pass less.
            self.gradient = torch.einsum("nk,kns->s", slope, jacobian)
            centred = jacobian - torch.einsum("nk,kns->ns", p, jacobian)
            roots = p.T.sqrt().unsqueeze(2) * centred
        self._roots = roots / batch.examples**0.5

    def diagonal(self) -> Tensor:
        """Return the diagonal of H.

        Returns:
            Shape (S,).
        """
        return self._roots.square().sum((0, 1))

    def variance(self) -> Tensor | None:
        """Return the variance of the diagonal, as far as it comes from drawing classes.

        Returns:
            Shape (S,); None where all classes count.
        """
        if not self._drawn:
            return None
        draws = len(self._roots)
        return (draws * self._roots.square().sum(1)).var(0) / draws

    def matrix(self) -> Tensor:
        """Return H.

        Returns:
            Shape (S, S), symmetric to the last bit.
        """
        roots = self._roots.flatten(0, 1)
        return _symmetric(roots.T @ roots)


class MaskHessian:
    """One batch's loss as a function of the masks, differentiated as it is."""

    def __init__(self, model: nn.Module, places: Places, batch: Batch) -> None:
        """Differentiate once.

        Args:
            model: The model, in the mode for scoring.
            places: Where the masks of S structures act.
            batch: The examples.

        Raises:
            ScoreError: If an operation can be differentiated only once.
        """
        sizes = list(places.sizes.values())
        self._masks = torch.ones(sum(sizes), dtype=batch.inputs.dtype, device=batch.inputs.device, requires_grad=True)
        parts = dict(zip(places.sizes, self._masks.split(sizes), strict=True))
        with multiplied(model, places, parts), Watch(model) as watch, differentiable_attention():
            outputs = self._forward(model, batch, watch)
        value = batch.loss_of(outputs)
        self._watch = watch
        with watch.explain("the derivative"):
            (self._gradient,) = torch.autograd.grad(value, self._masks, create_graph=True, materialize_grads=True)
        check_differentiable(self._gradient)
        self.gradient = self._gradient.detach()
        """g, shape (S,)."""

    @staticmethod
    def _forward(model: nn.Module, batch: Batch, watch: Watch) -> Any:
        with watch.explain("the forward pass"), Arithmetic(2), ConstantNorms():
            return model(batch.inputs.clone())

    def products(self, vectors: Tensor) -> Tensor:
        """Return Hessian-vector products.

        Args:
            vectors: Shape (V, S).

        Returns:
            One row for each vector, shape (V, S).
        """
        vectors = vectors.to(self.gradient)
        if not self._gradient.requires_grad:
            return torch.zeros_like(vectors)
        rows = []
        with self._watch.explain("the second derivative"):
            for some in vectors.split(ROWS_AT_ONCE):
                (found,) = torch.autograd.grad(
                    self._gradient, self._masks, some, retain_graph=True, is_grads_batched=True, allow_unused=True
                )
                rows.append(torch.zeros_like(some) if found is None else found)
        return torch.cat(rows)

    def matrix(self) -> Tensor:
        """Return H by its rows.

        Returns:
            Shape (S, S), symmetric to the last bit.
        """
        return _symmetric(self.products(torch.eye(len(self.gradient), device=self.gradient.device)))

    def probed_diagonal(self, probes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Estimate the diagonal of H.

        Args:
            probes: Number of random vectors, at least 2.
            generator: Draws them, on the CPU.

        Returns:
            The mean of ``z ⊙ Hz``, and the variance of that mean: (S,) each.
        """
        signs = torch.randint(2, (probes, len(self.gradient)), generator=generator) * 2 - 1
        z = signs.to(self.gradient, non_blocking=True)
        estimates = z * self.products(z)
        return estimates.mean(0), estimates.var(0) / probes


def require_gauss_newton(model: nn.Module, batch: Batch) -> None:
    """Refuse what Gauss–Newton does not hold for.

    Args:
        model: The model, in the mode for scoring.
        batch: Examples with their loss.

    Raises:
        ScoreError: If the loss is not cross-entropy.
    """
    if not plain_cross_entropy(batch.loss):
        raise ScoreError("hessian: 'gauss-newton' holds for cross-entropy alone; with another loss: exact, probes")
    require_independent(model)


def require_independent(model: nn.Module) -> None:
    """Refuse Gauss–Newton for a model whose norms couple examples.

    Args:
        model: The model, in the mode for scoring.

    Raises:
        ScoreError: If a batch norm uses the statistics of the batch.
    """
    if norm := coupling_norm(model):
        raise ScoreError(
            f"hessian: 'gauss-newton' needs examples that do not depend on each other, but {norm!r} normalises by the "
            "batch; allowed: norm 'eval', or hessian exact or probes"
        )


def coupling_norm(model: nn.Module) -> str:
    """Return the first batch norm that uses the statistics of the batch.

    Args:
        model: The model, in the mode for scoring.

    Returns:
        Its name; empty if there is none.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
            return name
    return ""


def _symmetric(matrix: Tensor) -> Tensor:
    """Take away what rounding made of a symmetric matrix."""
    return (matrix + matrix.T) / 2
