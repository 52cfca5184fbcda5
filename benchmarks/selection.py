"""Seconds that an allocation takes on a whole net: static scores and a full matrix of interactions.

Run ``python benchmarks/selection.py vgg19 --keep 0.1``. Scores and interactions are random numbers.
"""

from __future__ import annotations

import statistics
import time

import torch
from command import argument_parser, write_figures

from oba.config import Floors
from oba.importance.scores import StructureScores
from oba.models.build import build_model
from oba.pruning.cost import CostModel
from oba.pruning.dependencies import find_groups
from oba.pruning.problem import Problem, make_allocation

ALLOCATIONS = ("global", "per-mac", "uniform")


def seconds(problem: Problem, allocation: str) -> float:
    """Time one selection.

    Args:
        problem: The round.
        allocation: A registered name.

    Returns:
        Wall-clock seconds.
    """
    made = make_allocation(allocation)
    start = time.perf_counter()
    made.select(problem)
    return time.perf_counter() - start


def main() -> None:
    """Measure one network and print a table."""
    parser = argument_parser(__doc__)
    parser.add_argument("model", help="resnet20, resnet32x4, vgg19, timm/<name> or torchvision/<name>")
    parser.add_argument("--size", type=int, default=32, help="edge of the images in pixels")
    parser.add_argument("--keep", type=float, default=0.1, help="part of the dense MACs to keep")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind")
    options = parser.parse_args()
    torch.set_num_threads(1)
    edges = (3, options.size, options.size)
    model = build_model(options.model, num_classes=10, input_size=edges)
    groups = find_groups(model, edges, ignore=[], residual_streams=False)
    cost = CostModel.of(model, edges)
    structures = sum(map(len, groups))
    draw = torch.Generator().manual_seed(0)
    alone = {g.name: torch.randn(len(g), generator=draw, dtype=torch.float64) for g in groups}
    root = torch.randn(structures, structures, generator=draw, dtype=torch.float64) / structures
    figures = {}
    print(f"{options.model}: {structures} structures in {len(groups)} groups, down to {options.keep:g} of the MACs")
    for kind, matrix in (("scores", None), ("interactions", root + root.T)):
        scores = StructureScores(alone, matrix, in_nats=True)
        problem = Problem(groups, scores, cost, options.keep, Floors(), {g.name: len(g) for g in groups}, cost.macs)
        for allocation in ALLOCATIONS:
            taken = statistics.median(seconds(problem, allocation) for _ in range(options.rounds))
            figures[f"{kind}, {allocation}"] = taken
            print(f"{kind:13} {allocation:8} {taken:6.2f} s")
    write_figures(options, {"structures": structures, **figures})


if __name__ == "__main__":
    main()
