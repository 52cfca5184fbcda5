"""Widths of a net while blocks of its groups go and come back, whichever structures they are made of."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

from oba.pruning.problem import Problem


class Widths:
    """How many blocks of each group have gone, and the MACs that are left.

    Attributes:
        groups: The problem's groups.
        choices: For each group how many of its structures may go (:meth:`Problem.choices`).
        at: For each group which of its choices holds now.
    """

    def __init__(self, problem: Problem) -> None:
        """Start from the net as it is.

        Args:
            problem: The round; its budget must be reachable (``BudgetError``).
        """
        problem.require_reachable()
        self.groups = problem.groups
        self.choices = [problem.choices(group) for group in problem.groups]
        self._whole, self._budget = problem.cost, problem.budget
        self.set([0] * len(self.groups))

    @property
    def spare(self) -> int:
        """MACs per image that the budget leaves unused; negative where it is not met."""
        return self._budget - self._cost.macs

    def set(self, at: Sequence[int]) -> None:
        """Let every group go to one of its choices.

        Args:
            at: Index of the choice, one per group.
        """
        self.at, self._cost = list(at), self._whole.copy()
        for group, choices, index in zip(self.groups, self.choices, at, strict=True):
            self._cost.remove(group, choices[index])

    def saving(self, i: int, count: int) -> int:
        """Return the MACs per image that further structures of group ``i`` save; negative if they come back."""
        return self._cost.saving(self.groups[i], count)

    def block(self, i: int, steps: int) -> int:
        """Return how many structures group ``i`` loses if it moves on by so many of its choices."""
        return self.choices[i][self.at[i] + steps] - self.choices[i][self.at[i]]

    def move(self, i: int, steps: int) -> None:
        """Let group ``i`` move on by so many of its choices; negative: back."""
        self._cost.remove(self.groups[i], self.block(i, steps))
        self.at[i] += steps

    def counts(self) -> dict[str, int]:
        """Return how many structures go, by group; groups that lose nothing are absent."""
        gone = {g.name: choices[index] for g, choices, index in zip(self.groups, self.choices, self.at, strict=True)}
        return {name: count for name, count in gone.items() if count}

    def shrink(self, rank: Callable[[int, float], float]) -> float:
        """Let the blocks of highest rank go, from the whole net until the budget is met.

        Args:
            rank: Of a block of group ``i``, given how many of the group have gone at the block's middle; it falls as
                more go. Equal blocks go in the order of the groups.

        Returns:
            The rank of the last block that goes; infinite if none has to.
        """
        middles = ((i, (a + b) / 2) for i, choices in enumerate(self.choices) for a, b in pairwise(choices))
        blocks = sorted(((-rank(i, middle), i) for i, middle in middles))

        def meets(number: int) -> bool:
            gone = Counter(i for _, i in blocks[:number])
            self.set([gone[i] for i in range(len(self.groups))])
            return self.spare >= 0

        number = bisect_left(range(len(blocks)), True, key=meets)
        meets(number)
        return -blocks[number - 1][0] if number else float("inf")
