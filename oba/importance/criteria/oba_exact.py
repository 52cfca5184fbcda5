r"""Exact Hessian-vector element ``oba-exact`` (Sun et al., ICLR 2025: the second Taylor term; their "FastOBA").

.. math:: s_i = \theta_i (H\theta)_i \quad\text{(order 2)}, \qquad
          s_i = \theta_i \sum_{i_2 \dots i_k} \frac{\partial^k L}{\partial\theta_i \partial\theta_{i_2} \cdots
          \partial\theta_{i_k}}\, \theta_{i_2} \cdots \theta_{i_k} \quad\text{(order k)}

Order 1 is ``taylor``. The Taylor series has a factor 1/k!, which is left out: it does not change a ranking.
Operations that PyTorch cannot differentiate
so often run as arithmetic (:mod:`oba.curvature.arithmetic`).
"""

from __future__ import annotations

from torch import Tensor, nn

from oba.curvature import Arithmetic, Watch, differentiable_attention, nested_gradient
from oba.errors import ScoreError
from oba.importance.batches import Batch
from oba.importance.criterion import Criterion


class ObaExact(Criterion):
    """``θ_i (Hθ)_i`` on all trainable parameters, the direction being all of them; frozen parameters are constants."""

    ignores_scale = True

    @property
    def order(self) -> int:
        """Number of differentiations."""
        return self.options.order

    def parameter_scores(self, model: nn.Module, batch: Batch | None) -> dict[str, Tensor]:
        """Score every trainable parameter element on one batch.

        Args:
            model: The model, in the mode for scoring.
            batch: The examples.

        Returns:
            Signed scores in each parameter's shape.

        Raises:
            ScoreError: If nothing can be differentiated, or an operation cannot be differentiated so often.
        """
        assert batch is not None
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        values = {name: p.detach() for name, p in trainable.items()}
        with Watch(model) as watch, differentiable_attention():
            with watch.explain("the forward pass"), Arithmetic(self.order):
                outputs = model(batch.inputs.clone())
            value = batch.loss_of(outputs)
            if not value.requires_grad:
                raise ScoreError("the loss does not depend on any trainable parameter")
            with watch.explain(f"the derivative of order {self.order}"):
                derivative = nested_gradient(value, list(trainable.values()), list(values.values()), self.order)
        return {name: values[name] * d for name, d in zip(trainable, derivative, strict=True)}


CRITERION = ObaExact
