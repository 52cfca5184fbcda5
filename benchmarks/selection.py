"""Seconds that selection takes on a whole net: static scores and a full matrix of interactions, by score and per MAC.

Run ``python benchmarks/selection.py vgg19 --keep 0.1``. Scores and interactions are random numbers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from oba.config import PruningConfig
from oba.importance.model import StructureModel
from oba.models.build import build_model
from oba.pruning.cost import CostModel
from oba.pruning.dependencies import find_groups
from oba.pruning.prices import Prices
from oba.pruning.select import select
from oba.structures import StructureGroup

Rank = Literal["score", "per-mac"]
RANKS: tuple[Rank, ...] = ("score", "per-mac")


def seconds(
    groups: Sequence[StructureGroup],
    cost: CostModel,
    model: StructureModel,
    keep: float,
    rank: Rank,
) -> float:
    """Time one selection.

    Args:
        groups: Groups of structures.
        cost: The net's cost model.
        model: What their removal changes.
        keep: Part of the MACs to keep.
        rank: What goes first.

    Returns:
        Wall-clock seconds.
    """
    counts = {g.name: len(g) for g in groups}
    start = time.perf_counter()
    select(
        groups,
        Prices(groups, model, "none"),
        cost,
        keep=keep,
        pruning=PruningConfig(rank=rank),
        dense_counts=counts,
        dense_macs=cost.macs,
    )
    return time.perf_counter() - start


def main() -> None:
    """Measure one network and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="resnet20, resnet32x4, vgg19, timm/<name> or torchvision/<name>")
    parser.add_argument("--size", type=int, default=32, help="edge of the images in pixels")
    parser.add_argument("--keep", type=float, default=0.1, help="part of the dense MACs to keep")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
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
        for rank in RANKS:
            taken = [
                seconds(groups, cost, StructureModel(alone, matrix, in_nats=True), options.keep, rank)
                for _ in range(options.rounds)
            ]
            figures[f"{kind}, {rank}"] = statistics.median(taken)
            print(f"{kind:13} rank {rank:8} {statistics.median(taken):6.2f} s")
    if options.json:
        settings = {key: str(value) for key, value in vars(options).items()}
        options.json.write_text(json.dumps({"settings": settings, "structures": structures, **figures}, indent=1))


if __name__ == "__main__":
    main()
