"""What criteria cost: time and memory in multiples of one plain gradient of the same batch.

A plain gradient is one forward and one backward pass with the gradients of all parameters: 3 units, when one pass of
convolutions (forward, to the inputs, to the weights) is 1. All methods take turns within a round, so that a change of
the machine's speed meets all of them; the median over rounds of the paired ratios counts. Memory is the peak of what
tensors take above what the model and the batch hold, measured in a run of its own.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

from oba import registry
from oba.errors import ConfigError
from oba.files import write_json
from oba.importance.batches import Batch
from oba.importance.criterion import Criterion, make_criterion
from oba.importance.hessians import ROWS_AT_ONCE, MaskHessian
from oba.importance.joining import targets_of
from oba.importance.masks import places_of
from oba.importance.state import left_as_found
from oba.models.build import build_model
from oba.pruning.dependencies import find_groups
from oba.structures import StructureGroup
from oba.training.device import keep_freed_memory, set_threads

PLAIN = "gradient"
"""The method that all others are compared with."""
Run = Callable[[], object]


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
        model: Registered name of a net.
        batch: Number of images.
        size: Edge of the images in pixels.
        classes: Number of classes.
        norm: ``"eval"`` or ``"train"`` statistics of norms.
        rounds: Turns of all methods, after one to warm up.
        threads: CPU threads.
        device: ``"cpu"`` or ``"cuda"``.
    """

    model: str
    batch: int
    size: int
    classes: int = 10
    norm: str = "eval"
    rounds: int = 5
    threads: int = 2
    device: str = "cpu"


@dataclass(frozen=True)
class Cost:
    """What one method costs.

    Attributes:
        seconds: Median over the rounds.
        gradients: Median over the rounds of the time divided by the plain gradient's in the same round.
        peak_bytes: Peak of the memory that it takes.
        peak_gradients: The same divided by the plain gradient's.
    """

    seconds: float
    gradients: float
    peak_bytes: int
    peak_gradients: float


def measure(setting: Setting, criteria: Sequence[str], *, done: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Measure criteria on one net with random weights and images.

    Args:
        setting: Net, batch and machine.
        criteria: Registered names.
        done: Called after each timed run.

    Returns:
        The setting, versions and, by method, its :class:`Cost`, as plain values.
    """
    set_threads(setting.threads)
    keep_freed_memory()
    torch.manual_seed(0)
    device, edges = torch.device(setting.device), (3, setting.size, setting.size)
    model = build_model(setting.model, num_classes=setting.classes, input_size=edges)
    groups = find_groups(model, edges, ignore=[], residual_streams=False)
    model = model.to(device)
    images = torch.randn(setting.batch, *edges).to(device)
    batch = Batch(0, images, torch.randint(setting.classes, (setting.batch,)).to(device), F.cross_entropy)
    times: dict[str, list[float]] = {}
    with left_as_found(model, setting.norm):
        runs = _methods(model, groups, batch, criteria)
        for turn in range(setting.rounds + 1):
            for name, run in runs.items():
                taken = _seconds(run, device)
                done()
                if turn:
                    times.setdefault(name, []).append(taken)
        peaks = {name: _peak(run, device) for name, run in runs.items()}
    costs = {
        name: Cost(
            statistics.median(taken),
            statistics.median(t / plain for t, plain in zip(taken, times[PLAIN], strict=True)),
            peaks[name],
            peaks[name] / peaks[PLAIN],
        )
        for name, taken in times.items()
    }
    about = {"torch": torch.__version__, "machine": platform.processor() or platform.machine()}
    about["structures"] = str(sum(map(len, groups)))
    return {"setting": asdict(setting), "about": about, "costs": {n: asdict(c) for n, c in costs.items()}}


def run(setting: Setting, criteria: Sequence[str], output: Path | None) -> None:
    """Measure, print a table and write JSON.

    Args:
        setting: Net, batch and machine.
        criteria: Registered names; all that need data if empty.
        output: JSON file, or None.

    Raises:
        ConfigError: If a criterion is unknown or needs no data, or the device is not there.
    """
    costly = [name for name in registry.names("criterion") if make_criterion(name).needs_data]
    for name in criteria:
        if name not in costly:
            raise ConfigError(f"--criterion: {name!r} cannot be measured; allowed: {', '.join(costly)}")
    if setting.device not in ("cpu", "cuda") or (setting.device == "cuda" and not torch.cuda.is_available()):
        raise ConfigError(f"--device: {setting.device!r} is not there; allowed: cpu, and cuda on a machine with a GPU")
    with tqdm(desc=setting.model, unit="run", disable=None) as bar:
        measured = measure(setting, criteria or costly, done=bar.update)
    if output is not None:
        write_json(output, measured)
    table = Table(title=f"{setting.model}, {setting.batch} images of {setting.size}², norm {setting.norm}")
    table.add_column("method")
    for column in ("ms", "gradients", "peak MB", "gradients' memory"):
        table.add_column(column, justify="right")
    for name, cost in measured["costs"].items():
        times = f"{1e3 * cost['seconds']:.1f}", f"{cost['gradients']:.2f}"
        table.add_row(name, *times, f"{cost['peak_bytes'] / 1e6:.1f}", f"{cost['peak_gradients']:.2f}")
    Console().print(table)


def _methods(
    model: nn.Module, groups: Sequence[StructureGroup], batch: Batch, criteria: Sequence[str]
) -> Mapping[str, Run]:
    """Return what is timed, the plain gradient first."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    runs: dict[str, Run] = {
        PLAIN: lambda: torch.autograd.grad(batch.loss_of(model(batch.inputs)), trainable, allow_unused=True)
    }
    for name in criteria:
        scorer = make_criterion(name)
        targets = targets_of(model, groups, scorer, batch)
        if type(scorer).parameter_scores is not Criterion.parameter_scores:
            runs[f"{name}, per parameter"] = lambda s=scorer: s.parameter_scores(model, batch)
        if type(scorer).score is Criterion.score:
            runs[f"{name}, per structure"] = lambda s=scorer, t=targets: s.batch_scores(model, t, batch)
        else:
            # It scores all batches together; here there is one.
            runs[f"{name}, per structure"] = lambda s=scorer: s.score(model, groups, [batch])
    if {"oba-diag", "oba-joint"} & set(criteria):
        runs[f"exact Hessian, {ROWS_AT_ONCE} rows"] = lambda: _rows(model, groups, batch)
    return runs


def _rows(model: nn.Module, groups: Sequence[StructureGroup], batch: Batch) -> object:
    hessian = MaskHessian(model, places_of(model, groups), batch)
    return hessian.products(torch.eye(len(hessian.gradient))[:ROWS_AT_ONCE])


def _seconds(run: Run, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _peak(run: Run, device: torch.device) -> int:
    """Return the most memory that a run's tensors take at one time."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    held = highest = 0
    results: Any = recorded.profiler
    events: Any = (e for e in results.kineto_results.events() if e.name() == "[memory]")
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest
