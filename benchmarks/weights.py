"""What single weights cost besides scoring: choosing who goes, in multiples of sorting all scores, and storing them.

Run ``python benchmarks/weights.py torchvision/resnet50 --size 224``. Scores are random numbers. Sort and allocations
take turns, and the medians of the ratios count. What scoring takes says ``oba bench importance``, per parameter.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from command import argument_parser, write_figures

from oba.models.build import build_model
from oba.models.stored import WEIGHTS, ModelCard, save_pruned
from oba.models.weight_masks import apply_masks
from oba.pruning.weights.problem import WeightProblem, make_weight_allocation
from oba.pruning.weights.prunable import whole_masks

SORT = "sort"
ALLOCATIONS = ("global", "uniform", "erk", "n-m")


def seconds(run: Callable[[], object]) -> float:
    """Time one run.

    Args:
        run: What is timed.

    Returns:
        Wall-clock seconds.
    """
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Measure one network and print a table."""
    parser = argument_parser(__doc__)
    parser.add_argument("model", help="resnet20, resnet32x4, vgg19, timm/<name> or torchvision/<name>")
    parser.add_argument("--size", type=int, default=32, help="edge of the images in pixels")
    parser.add_argument("--keep", type=float, default=0.1, help="part of the weights to keep; n-m keeps 2 of 4")
    parser.add_argument("--rounds", type=int, default=3, help="turns of all, after one to warm up")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    edges = (3, options.size, options.size)
    model = build_model(options.model, num_classes=10, input_size=edges)
    masks = whole_masks(model)
    scores = {name: torch.rand(mask.shape) for name, mask in masks.items()}
    problem = WeightProblem(scores, masks, options.keep)
    halves = WeightProblem(scores, masks, 0.5)
    runs: dict[str, Callable[[], object]] = {SORT: lambda: torch.cat([s.flatten() for s in scores.values()]).sort()}
    for name in ALLOCATIONS:
        made, posed = make_weight_allocation(name), halves if name == "n-m" else problem
        runs[name] = lambda made=made, posed=posed: made.select(posed)
    turns = [{name: seconds(run) for name, run in runs.items()} for _ in range(options.rounds + 1)][1:]
    print(f"{options.model}: {sum(mask.numel() for mask in masks.values()):,} weights, {options.keep:g} of them kept")
    figures = {}
    for name in runs:
        taken = statistics.median(turn[name] for turn in turns)
        ratio = statistics.median(turn[name] / turn[SORT] for turn in turns)
        figures[name] = {"seconds": taken, "sorts": ratio}
        print(f"{name:8} {taken:6.2f} s {ratio:6.2f} of a sort")
    masks = make_weight_allocation("global").select(problem)
    apply_masks(model, masks)
    with tempfile.TemporaryDirectory() as folder:
        card = ModelCard(options.model, 10, edges, (), (), ())
        sizes = {}
        for kind, stored in (("dense", None), ("masked", masks)):
            save_pruned(Path(folder), model, card, masks=stored)
            sizes[kind] = (Path(folder) / WEIGHTS).stat().st_size
    figures["bytes"] = sizes
    print(f"stored   {sizes['masked'] / 1e6:6.1f} MB {sizes['masked'] / sizes['dense']:5.2f} of the dense file")
    write_figures(options, figures)


if __name__ == "__main__":
    main()
