"""The same fraction of every layer's weights ``uniform``."""

from __future__ import annotations

from torch import Tensor

from oba.options import Options
from oba.pruning.weights.apportion import apportion
from oba.pruning.weights.problem import WeightAllocation, WeightProblem, keep_by_layer


class Uniform(WeightAllocation[Options]):
    """Who goes decides nothing but who goes; layers are rounded so that the level is met exactly."""

    def select(self, problem: WeightProblem) -> dict[str, Tensor]:
        """Keep the best weights of every layer."""
        sizes = [mask.numel() for mask in problem.masks.values()]
        left = [int(mask.sum()) for mask in problem.masks.values()]
        return keep_by_layer(problem, apportion(problem.budget, sizes, left))


ALLOCATION = Uniform
