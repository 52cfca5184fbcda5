r"""Greedy removal of blocks of columns, the rest being refitted each time: Optimal Brain Surgeon with blocks.

A consumer with the (damped) Gram matrix A of its inputs and the weight W, without the columns B and with the best
weights for the others, has the error

.. math:: \min_{W'_{:B} = 0} \mathrm{tr}\,(W - W') A (W - W')^T
          = \mathrm{tr}\, W_{:B} [(A^{-1})_{BB}]^{-1} W_{:B}^T

and that optimum, from which the next removal starts, and the inverse of A without B are

.. math:: W \leftarrow W - W_{:B} [(A^{-1})_{BB}]^{-1} (A^{-1})_{B:}, \qquad
          A^{-1} \leftarrow A^{-1} - (A^{-1})_{:B} [(A^{-1})_{BB}]^{-1} (A^{-1})_{B:}

(Hassibi and Stork 1993; for layers, OBC: Frantar and Alistarh 2022; for structures, ZipLM: Kurtic et al. 2023). Errors
add up over the removals, because W is always the optimum for the columns that it has. After the removals of R, the
weights are ``W A_:K (A_KK)⁻¹``, which :func:`oba.curvature.refit.refit` computes in one solve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from oba.errors import ScoreError


@dataclass(frozen=True)
class Consumer:
    """A layer, or one group of a grouped convolution, with the columns that each structure's removal takes from it.

    A consumer's part of the error is scaled by scaling ``gram``.

    Attributes:
        gram: A, symmetric positive definite, float64, shape (columns, columns), see :func:`oba.curvature.refit.damped`.
        weight: W, float64, shape (outputs, columns).
        structures: Numbers of the structures that it reads, distinct, int64, shape (n,).
        blocks: Columns of each of them, disjoint, int64, shape (n, columns of a block); the other columns stay.
    """

    gram: Tensor
    weight: Tensor
    structures: Tensor
    blocks: Tensor


@dataclass(frozen=True)
class Removal:
    """The order in which structures go, and what that costs.

    Attributes:
        order: All structures, the first to go first, int64, shape (structures,).
        errors: Error after the removal of none, one, ..., all of them, float64, shape (structures + 1,), not
            decreasing; the square of the outputs' units, summed over outputs and consumers.
        power: tr W A Wᵀ summed over consumers, in the same units: the error with all weights 0, by which errors are
            made relative.
    """

    order: Tensor
    errors: Tensor
    power: float


def consumers_of(gram: Tensor, weight: Tensor, columns: Sequence[Tensor]) -> list[Consumer]:
    """Return a layer as consumers, one for each group that reads any of the structures.

    Args:
        gram: A of each group, damped, shape (groups, columns of a group, columns of a group).
        weight: W of each group, shape (groups, outputs of a group, columns of a group).
        columns: The columns of each structure, numbered through all groups (for a convolution: input channel × kernel
            positions + position); empty for a structure that the layer does not read.

    Returns:
        The consumers.

    Raises:
        ValueError: If structures take different numbers of columns from one group.
    """
    width = gram.shape[-1]
    found = []
    for group in range(len(gram)):
        inside = [own[own.div(width, rounding_mode="floor") == group] - group * width for own in columns]
        read = [number for number, block in enumerate(inside) if len(block)]
        if len({len(inside[number]) for number in read}) > 1:
            raise ValueError("structures take different numbers of columns from one group of a layer")
        if read:
            blocks = torch.stack([inside[number] for number in read])
            found.append(Consumer(gram[group], weight[group], torch.tensor(read), blocks))
    return found


def greedy_removal(consumers: Sequence[Consumer]) -> Removal:
    """Remove all structures one by one, each time the one whose removal adds the least error over all consumers.

    A removal costs O(columns² · block) in each consumer of the structure: the inverse is updated, and the errors of
    all its remaining blocks are computed in one batch. The memory is about four times that of the Gram matrix for the
    consumer being prepared and once that of every other.

    Args:
        consumers: What reads the structures 0, 1, ...; each of them is read by at least one.

    Returns:
        Order and errors.

    Raises:
        ScoreError: If a Gram matrix is not positive definite.
        ValueError: If a structure is read by no consumer.
    """
    count = 1 + max(int(consumer.structures.max()) for consumer in consumers)
    readers: list[list[int]] = [[] for _ in range(count)]
    for index, consumer in enumerate(consumers):
        for structure in consumer.structures.tolist():
            readers[structure].append(index)
    if [] in readers:
        raise ValueError(f"structure {readers.index([])} is read by no consumer")
    weight = consumers[0].weight
    errors = weight.new_zeros(len(consumers), count)
    states = [_Remaining(consumer) for consumer in consumers]
    for row, state in zip(errors, states, strict=True):
        row[state.structures] = state.errors()
    gone = weight.new_zeros(count)
    order, total = [], [0.0]
    for _ in range(count):
        added = errors.sum(0) + gone
        best = int(added.argmin())
        order.append(best)
        total.append(total[-1] + float(added[best]))
        gone[best] = torch.inf
        for index in readers[best]:
            states[index].remove(best)
            errors[index, states[index].structures] = states[index].errors()
    power = sum(float(((c.weight @ c.gram) * c.weight).sum()) for c in consumers)
    return Removal(torch.tensor(order), torch.tensor(total, dtype=torch.float64), power)


class _Remaining:
    """What is left of a consumer: always the leading columns, those of no structure first, then block by block."""

    def __init__(self, consumer: Consumer) -> None:
        count, self._block = consumer.blocks.shape
        stays = torch.ones(len(consumer.gram), dtype=torch.bool, device=consumer.gram.device)
        stays[consumer.blocks] = False
        order = torch.cat([stays.nonzero()[:, 0], consumer.blocks.flatten().to(stays.device)])
        self._first = len(order) - count * self._block
        self.structures: list[int] = consumer.structures.tolist()
        self._weight = consumer.weight.mT[order]
        factor, failed = torch.linalg.cholesky_ex(consumer.gram[order[:, None], order])
        if failed:
            raise ScoreError("a Gram matrix is not positive definite: it needs a larger damping")
        self._inverse = torch.cholesky_inverse(factor)

    def errors(self) -> Tensor:
        """Return the error that the removal of each remaining structure adds."""
        blocks = slice(self._first, self._end)
        shape = (len(self.structures), self._block)
        inverse = self._inverse[blocks, blocks].unflatten(0, shape).unflatten(2, shape).diagonal(dim1=0, dim2=2)
        factors = torch.linalg.cholesky(inverse.movedim(-1, 0))
        weights = self._weight[blocks].unflatten(0, shape)
        # Products of small matrices first: a batch of triangular solves with many columns takes eight times as long.
        return (torch.cholesky_inverse(factors) * (weights @ weights.mT)).sum((1, 2))

    @property
    def _end(self) -> int:
        return self._first + len(self.structures) * self._block

    def remove(self, structure: int) -> None:
        """Remove a structure and refit the rest; the last block moves to its place."""
        end, place = self._end, self.structures.index(structure)
        block = slice(self._first + place * self._block, self._first + (place + 1) * self._block)
        last = slice(end - self._block, end)
        factor = torch.linalg.cholesky(self._inverse[block, block])
        inverse = torch.linalg.solve_triangular(factor, self._inverse[block, :end], upper=False)
        weight = torch.linalg.solve_triangular(factor, self._weight[block], upper=False)
        self._inverse[:end, :end].addmm_(inverse.mT, inverse, alpha=-1)
        self._weight[:end].addmm_(inverse.mT, weight, alpha=-1)
        if block != last:
            self._inverse[block, :end] = self._inverse[last, :end]
            self._inverse[:end, block] = self._inverse[:end, last]
            self._weight[block] = self._weight[last]
            self.structures[place] = self.structures[-1]
        self.structures.pop()
