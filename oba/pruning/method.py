"""A method ready to work: its criterion, allocation and update, made from the study's words."""

from __future__ import annotations

from dataclasses import dataclass

from oba.config import MethodConfig
from oba.importance.criterion import Criterion, make_criterion
from oba.pruning.cut import make_update
from oba.pruning.levels import Steps
from oba.pruning.problem import make_allocation
from oba.pruning.weights.levels import WeightSteps
from oba.pruning.weights.problem import make_weight_allocation


@dataclass(frozen=True)
class Method:
    """Who goes, how much goes where, how the survivors adjust.

    Attributes:
        config: The method as the study says it, all options spelled out.
        steps: Allocation, update, rounds, descent and, of structures, floors.
    """

    config: MethodConfig
    steps: Steps | WeightSteps

    @classmethod
    def of(cls, config: MethodConfig) -> Method:
        """Make a method's parts.

        Args:
            config: The method.

        Returns:
            The method.
        """
        chosen = config.allocation
        update = make_update(config.update.name, **config.update.options)
        if config.floors is None:
            divide = make_weight_allocation(chosen.name, **chosen.options)
            return cls(config, WeightSteps(divide, update, config.rounds, config.descent))
        allocation = make_allocation(chosen.name, **chosen.options)
        return cls(config, Steps(allocation, update, config.rounds, config.floors, config.descent))

    def criterion(self, seed: int) -> Criterion:
        """Return a fresh criterion: it may remember what it found on one net, and draws from its own seed.

        Args:
            seed: Seed of all that it draws.

        Returns:
            The criterion.
        """
        chosen = self.config.criterion
        return make_criterion(chosen.name, seed, **chosen.options)
