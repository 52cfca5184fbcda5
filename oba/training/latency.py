"""How much faster a net is than another, on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oba.training.device import fastest_kernels
from oba.training.evaluation import evaluating

_WARM_UP = 5


@dataclass(frozen=True)
class Latency:
    """Times of one forward pass of a batch, in milliseconds, and the speed-up that they mean."""

    batch: int
    runs: int
    median_ms: float
    reference_median_ms: float
    speedup: float
    """Median over the turns of reference time / time."""
    speedup_low: float
    """Lower quartile."""
    speedup_high: float
    """Upper quartile."""
    deterministic: bool
    """Whether torch was told to use deterministic kernels while the nets were timed."""
    cudnn_benchmark: bool
    """Whether cuDNN was free to try several kernels and keep the fastest."""


def compare_latency(
    model: nn.Module,
    reference: nn.Module,
    input_size: tuple[int, int, int],
    *,
    batch: int,
    runs: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Time two nets in turns, see :func:`compare_passes`.

    Args:
        model: The net to time, on ``device``; its modes stay as they were.
        reference: The net to compare it with, also on ``device``.
        input_size: Channels, height and width of the images.
        batch: Images per pass.
        runs: Timed turns, at least 2.
        device: Where the nets are.
        clock: Gives the time in seconds.

    Returns:
        Medians and quartiles over the turns.
    """
    images = torch.randn(batch, *input_size, generator=torch.Generator().manual_seed(0)).to(device)
    with evaluating(model), evaluating(reference):
        return compare_passes(model, reference, images, runs=runs, clock=clock)


def compare_passes(
    own: Callable[[Tensor], object],
    reference: Callable[[Tensor], object],
    images: Tensor,
    *,
    runs: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Time two ways of classifying images in turns, so that other load on the machine affects both alike.

    Each turn times both, the one that starts alternating, and gives one ratio. A few untimed turns come first, in
    which cuDNN chooses its kernels. Deterministic kernels are off: users of the nets would not run them.

    Args:
        own: What is timed: a net in eval mode, or what runs one.
        reference: What it is compared with.
        images: One batch.
        runs: Timed turns, at least 2.
        clock: Gives the time in seconds.

    Returns:
        Medians and quartiles over the turns.
    """
    times: list[float] = []
    reference_times: list[float] = []
    with fastest_kernels(), torch.inference_mode():
        kernels = (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark)
        for _ in range(_WARM_UP):
            own(images)
            reference(images)
        for turn in range(runs):
            pair = [(own, times), (reference, reference_times)]
            for classify, into in reversed(pair) if turn % 2 else pair:
                into.append(_time(classify, images, clock))
    ratios = [b / a for a, b in zip(times, reference_times, strict=True)]
    low, middle, high = statistics.quantiles(ratios, method="inclusive")
    medians = (statistics.median(times), statistics.median(reference_times))
    return Latency(len(images), runs, *medians, middle, low, high, *kernels)


def _time(classify: Callable[[Tensor], object], images: Tensor, clock: Callable[[], float]) -> float:
    """Return the milliseconds of one pass."""
    _wait(images.device)
    start = clock()
    classify(images)
    _wait(images.device)
    return (clock() - start) * 1000


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
