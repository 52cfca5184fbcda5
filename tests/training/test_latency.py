from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from oba.training.latency import compare_latency

CPU = torch.device("cpu")


class Timed(nn.Module):
    """Takes as long as it is told, on a clock of its own; says when it runs."""

    def __init__(self, name: str, seconds: Callable[[int], float], world: dict[str, float], log: list[str]) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.name, self.seconds, self.world, self.log = name, seconds, world, log
        self.sizes: set[tuple[int, ...]] = set()

    def forward(self, x: Tensor) -> Tensor:
        assert not self.dropout.training
        assert torch.is_inference_mode_enabled()
        self.sizes.add(tuple(x.shape))
        self.world["now"] += self.seconds(self.log.count(self.name))
        self.log.append(self.name)
        return x


def test_nets_are_timed_in_alternating_turns_after_a_warm_up() -> None:
    world, log = {"now": 0.0}, []
    model = Timed("model", lambda call: 0.001 if call >= 5 else 1.0, world, log)
    reference = Timed("reference", lambda call: 0.002 * (call - 4) if call >= 5 else 9.0, world, log)
    latency = compare_latency(model, reference, (3, 4, 4), batch=6, runs=5, device=CPU, clock=lambda: world["now"])
    assert log[:10] == ["model", "reference"] * 5
    assert log[10:] == ["model", "reference", "reference", "model"] * 2 + ["model", "reference"]
    assert model.sizes == reference.sizes == {(6, 3, 4, 4)}
    assert (latency.batch, latency.runs) == (6, 5)
    assert latency.median_ms == pytest.approx(1.0)
    assert latency.reference_median_ms == pytest.approx(6.0)
    assert (latency.speedup_low, latency.speedup, latency.speedup_high) == pytest.approx((4.0, 6.0, 8.0))
    assert model.training
    assert reference.training


def test_the_speedup_is_the_median_of_paired_ratios_not_the_ratio_of_medians() -> None:
    world, log = {"now": 0.0}, []
    own, other = (1.0, 2.0, 4.0), (4.0, 2.0, 3.0)
    model = Timed("model", lambda call: own[call - 5] if call >= 5 else 1.0, world, log)
    reference = Timed("reference", lambda call: other[call - 5] if call >= 5 else 1.0, world, log)
    latency = compare_latency(model, reference, (1, 2, 2), batch=1, runs=3, device=CPU, clock=lambda: world["now"])
    assert latency.speedup == pytest.approx(statistics.median([4.0, 1.0, 0.75]))
    assert latency.reference_median_ms / latency.median_ms == pytest.approx(1.5)


def test_real_nets_give_ordered_quartiles() -> None:
    latency = compare_latency(nn.Conv2d(3, 2, 3), nn.Conv2d(3, 8, 3), (3, 8, 8), batch=2, runs=7, device=CPU)
    assert 0 < latency.speedup_low <= latency.speedup <= latency.speedup_high
    assert latency.median_ms > 0
    assert latency.reference_median_ms > 0


class Probe(nn.Module):
    """Notes which kernels each pass may use."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[bool, bool]] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add((torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark))
        return x


@pytest.fixture
def _deterministic() -> Iterator[None]:
    benchmark = torch.backends.cudnn.benchmark
    torch.set_deterministic_debug_mode("warn")
    torch.backends.cudnn.benchmark = False
    yield
    torch.set_deterministic_debug_mode("default")
    torch.backends.cudnn.benchmark = benchmark


@pytest.mark.usefixtures("_deterministic")
def test_deterministic_kernels_are_off_while_nets_are_timed_and_this_is_recorded() -> None:
    model, reference = Probe(), Probe()
    latency = compare_latency(model, reference, (1, 2, 2), batch=1, runs=2, device=CPU)
    assert model.seen == reference.seen == {(False, True)}
    assert (latency.deterministic, latency.cudnn_benchmark) == (False, True)
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.backends.cudnn.benchmark
