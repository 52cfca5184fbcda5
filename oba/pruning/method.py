"""A method ready to work: its criterion, allocation and update, made from the study's words."""

from __future__ import annotations

from dataclasses import dataclass

from oba.config import MethodConfig
from oba.importance.criterion import Criterion, make_criterion
from oba.pruning.cut import make_update
from oba.pruning.levels import Steps
from oba.pruning.problem import make_allocation


@dataclass(frozen=True)
class Method:
    """Who goes, how much goes where, how the survivors adjust.

    Attributes:
        config: The method as the study says it, all options spelled out.
        steps: Allocation, update, rounds and floors.
    """

    config: MethodConfig
    steps: Steps

    @classmethod
    def of(cls, config: MethodConfig) -> Method:
        """Make a method's parts.

        Args:
            config: The method.

        Returns:
            The method.
        """
        allocation = make_allocation(config.allocation.name, **config.allocation.options)
        update = make_update(config.update.name, **config.update.options)
        return cls(config, Steps(allocation, update, config.rounds, config.floors))

    def criterion(self, seed: int) -> Criterion:
        """Return a fresh criterion: it may remember what it found on one net, and draws from its own seed.

        Args:
            seed: Seed of all that it draws.

        Returns:
            The criterion.
        """
        chosen = self.config.criterion
        return make_criterion(chosen.name, seed, **chosen.options)
