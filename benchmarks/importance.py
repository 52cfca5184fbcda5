"""Time criteria in multiples of one plain gradient.

A plain gradient is one forward and one backward pass with the gradients of all parameters: 3 units, when one pass of
convolutions (forward, input gradients, weight gradients) is 1. Methods take turns within a round, so that a change of
the machine's speed meets all of them; the median over rounds of the paired ratios counts.

Run ``python benchmarks/importance.py resnet32x4 --batch 64 --size 32``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from oba.curvature import parameter_layers
from oba.importance.batches import Batch
from oba.importance.criterion import Options, load_criterion
from oba.importance.state import left_as_found
from oba.models.build import build_model


def methods(model: nn.Module, batch: Batch) -> dict[str, Callable[[], object]]:
    """Return what is timed: name to a function of no argument.

    Args:
        model: The network, in the mode for scoring.
        batch: The examples.

    Returns:
        The plain gradient first.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    channels = [(name, axis) for name in parameter_layers(model) for axis in ("out", "in")]
    oba, exact, taylor = (load_criterion(name, Options()) for name in ("oba", "oba-exact", "taylor"))
    return {
        "gradient": lambda: torch.autograd.grad(batch.loss_of(model(batch.inputs)), trainable, allow_unused=True),
        "taylor, per channel": lambda: taylor.channel_scores(model, channels, batch),
        "taylor, per parameter": lambda: taylor.parameter_scores(model, batch),
        "oba, per channel": lambda: oba.channel_scores(model, channels, batch),
        "oba, per parameter": lambda: oba.parameter_scores(model, batch),
        "oba-exact, per channel": lambda: exact.channel_scores(model, channels, batch),
        "oba-exact, per parameter": lambda: exact.parameter_scores(model, batch),
    }


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Return how long one call takes.

    Args:
        run: What is timed.
        device: Where it runs.

    Returns:
        Wall-clock seconds.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Time one network and print a table."""
    parser = argparse.ArgumentParser(description="Time criteria in multiples of one plain gradient.")
    parser.add_argument("model", help="resnet20, resnet32x4, vgg19, timm/<name> or torchvision/<name>")
    parser.add_argument("--batch", type=int, default=64, help="images")
    parser.add_argument("--size", type=int, default=32, help="edge of the images in pixels")
    parser.add_argument("--norm", choices=("eval", "train"), default="eval", help="statistics of the norm layers")
    parser.add_argument("--rounds", type=int, default=5, help="turns of all methods, after one to warm up")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    model = build_model(options.model, num_classes=10, input_size=(3, options.size, options.size)).to(device)
    inputs = torch.randn(options.batch, 3, options.size, options.size, device=device)
    batch = Batch(0, inputs, torch.randint(10, (options.batch,), device=device), F.cross_entropy)
    times: dict[str, list[float]] = {}
    with left_as_found(model, options.norm):
        runs = methods(model, batch)
        for turn in range(options.rounds + 1):
            for name, run in runs.items():
                taken = seconds(run, device)
                if turn:
                    times.setdefault(name, []).append(taken)
    print(f"{options.model}, {options.batch} images of {options.size}², norm {options.norm}, {device}")
    for name, taken in times.items():
        ratios = [t / plain for t, plain in zip(taken, times["gradient"], strict=True)]
        print(f"{name:24} {1e3 * statistics.median(taken):9.1f} ms {statistics.median(ratios):6.2f} gradients")


if __name__ == "__main__":
    main()
