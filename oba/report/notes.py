"""What readers must know to read the table honestly: one sentence per note, only where it applies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from oba.layout import DENSE_LONGER
from oba.report.collect import BETWEEN_WARNINGS, finished
from oba.report.frames import grouped, records, where
from oba.report.granularity import STRUCTURES, WEIGHTS
from oba.report.net import FINETUNED, SCRATCH

_EN_DASH = "\N{EN DASH}"
_LISTED = 6
"""Nets or warnings that one note lists before it points to the full table."""
_LAYERS = 2
"""Warnings of one net that a note lists."""


def notes(summary: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    """Return the notes that belong under the summary table.

    Args:
        summary: The table of :func:`oba.report.summarize.summarize`.
        runs: The table of :func:`oba.report.collect.collect`.

    Returns:
        One text per note: missing nets, seeds, noise of the test set, identical images, comparison, controls, latency,
        nets that are not faster, masked weights, layers cut through, updates.
    """
    speed = speed_notes(summary, runs)
    lacking, runs = len(runs) - len(finished(runs)), finished(runs)
    found = [
        _lacking(lacking, len(runs)),
        _seeds(summary),
        _test_noise(summary, runs),
        _duplicates(runs),
        _comparison(summary),
        *_controls(summary),
        *speed,
        _masked(summary),
        _cut_through(runs),
        _updates(runs),
    ]
    return [note for note in found if note]


def speed_notes(summary: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    """Return those of the notes that tell of measured times, which differ from run to run.

    Args:
        summary: The table of :func:`oba.report.summarize.summarize`.
        runs: The table of :func:`oba.report.collect.collect`.

    Returns:
        One text per note.
    """
    return [_latency(finished(runs)), *_slow(summary)]


def alerts(summary: pd.DataFrame, runs: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return those of the notes that warn.

    Args:
        summary: The table of :func:`oba.report.summarize.summarize`.
        runs: The table of :func:`oba.report.collect.collect`.

    Returns:
        What is missing, doubled or cut through; and nets that are not faster, which differ from run to run.
    """
    there = finished(runs)
    found = [_lacking(len(runs) - len(there), len(there)), _duplicates(there), _cut_through(there)]
    return [note for note in found if note], _slow(summary)


def missing_nets(runs: pd.DataFrame) -> list[str]:
    """Return the nets that are missing, and why.

    Args:
        runs: The table of :func:`oba.report.collect.collect`.

    Returns:
        One line per net.
    """
    return [f"{_name(row)}: {row.missing}" for row in records(where(runs, runs.missing != ""))]


def enumerate_some(items: Sequence[str], more: str) -> str:
    """Join items with semicolons, the first few only.

    Args:
        items: What to list.
        more: Where the rest can be found.

    Returns:
        The items, and how many there are more.
    """
    left = len(items) - _LISTED
    return "; ".join(items[:_LISTED]) + (f"; and {left} more in {more}" if left > 0 else "")


def _span(values: pd.Series) -> str:
    low, high = values.min(), values.max()
    return f"{low}" if low == high else f"{low} to {high}"


def _name(row: Any) -> str:
    """Name one net of one seed."""
    level = f" {row.schedule} keep {row.keep:.2f}" if row.schedule else ""
    variant = f", {SCRATCH}" if row.variant == SCRATCH else ""
    return f"{row.model} {row.method}{level}{variant} (seed {row.seed})"


def _lacking(missing: int, there: int) -> str:
    if not missing:
        return ""
    return (
        f"{missing} of {missing + there} nets {'is' if missing == 1 else 'are'} missing (see Missing): "
        "means are over the n seeds that are there, and nets with different n are not averages of the same seeds."
    )


def _seeds(summary: pd.DataFrame) -> str:
    if summary.seeds.max() == 1:
        return "One seed: no spread can be given, and with another seed the nets may rank differently."
    few = " (nets of one seed have no ±)" if summary.seeds.min() == 1 else ""
    return f"Means over {_span(summary.seeds)} seeds, ± the sample standard deviation{few}."


def _test_noise(summary: pd.DataFrame, runs: pd.DataFrame) -> str:
    images = int(runs.test_images.min())
    best, worst = summary.top1_percent.max(), summary.top1_percent.min()

    def error(percent: float) -> str:
        p = percent / 100
        return f"{math.sqrt(p * (1 - p) / images) * 100:.2g}"

    lowest = f" and {error(worst)} at {worst:.1f} %" if worst < best else ""
    return (
        f"{_span(runs.test_images)} test images: the standard error of one accuracy, √(p(1-p)/n), is "
        f"{error(best)} points at {best:.1f} %{lowest}; single nets closer than that cannot be told apart."
    )


def _duplicates(runs: pd.DataFrame) -> str:
    """Say which seeds have identical images in two parts of the data."""
    seeds = where(runs, runs.duplicates != "").filter(["seed", "duplicates"]).drop_duplicates()
    if seeds.empty:
        return ""
    counts = [f"seed {row.seed}: {row.duplicates}" for row in records(seeds.sort_values("seed"))]
    return (
        f"Identical images in different parts of the data ({enumerate_some(counts, 'runs.csv')}): accuracy on such "
        "images says nothing about new ones; data/split-seed*-run.json names some of them."
    )


def _comparison(summary: pd.DataFrame) -> str:
    compared = where(summary, summary.versus != "")
    if compared.empty:
        return ""
    firsts = list(compared.versus.unique())
    names, nets = " or ".join(firsts), " or ".join(f"`{first}`" for first in firsts)
    return (
        f"vs {names}: mean difference to the net of {nets}, fine-tuned, with the same seed, schedule and level; "
        "+ is better."
    )


def _controls(summary: pd.DataFrame) -> list[str]:
    found = []
    if (summary.variant == SCRATCH).any():
        found.append("scratch: the pruned architecture trained from new weights.")
    if (summary.method == DENSE_LONGER).any():
        found.append(f"{DENSE_LONGER}: the dense net given the same fine-tuning epochs, nothing removed.")
    return found


def _latency(runs: pd.DataFrame) -> str:
    places = runs.filter(["device", "threads", "latency_batch"]).drop_duplicates()
    where = "; ".join(
        f"{row.device}, {row.threads} thread{'' if row.threads == 1 else 's'}, batch {row.latency_batch}"
        for row in records(places)
    )
    timings = _span(runs.latency_runs)
    return f"Speedup: latency of the dense net / of the net, median of {timings} paired timings ({where})."


def _slow(summary: pd.DataFrame) -> list[str]:
    """One note per model with nets of fewer MACs whose lower quartile of the speedup does not exceed 1."""
    pruned = where(summary, (summary.variant == FINETUNED) & (summary.granularity == STRUCTURES))
    found = []
    for (model,), group in grouped(pruned, ["model"]):
        slow = where(group, (group.speedup_low <= 1) & (group.macs_kept_percent < 100))
        if slow.empty:
            continue
        nets = [
            f"{row.method} {row.schedule} with {row.macs_kept_percent:.0f} % of MACs: speedup {row.speedup:.2f} "
            f"(quartiles {row.speedup_low:.2f}{_EN_DASH}{row.speedup_high:.2f})"
            for row in records(slow.sort_values("macs_kept_percent", kind="stable"))
        ]
        found.append(
            f"{model}: fewer MACs but no speedup in {len(slow)} of {len(group)} pruned nets: "
            f"{enumerate_some(nets, 'summary.csv')}."
        )
    return found


def _masked(summary: pd.DataFrame) -> str:
    """Say what the levels of methods mean that remove single weights, and what their nets cost."""
    masked = where(summary, summary.granularity == WEIGHTS)
    if masked.empty:
        return ""
    return (
        f"{', '.join(masked.method.unique())}: keep is a fraction of the weights of Conv, Linear and attention layers; "
        "the others are 0. MACs, parameters and speedup are those of dense kernels, which do not skip zeros."
    )


def _pruned(runs: pd.DataFrame) -> pd.DataFrame:
    return where(runs, (runs.variant == FINETUNED) & (runs.method != DENSE_LONGER))


def _by_seeds(nets: pd.DataFrame) -> list[tuple[str, str]]:
    """Name nets, smallest level first, the seeds of equal warnings together; with each name its warnings."""
    found = []
    keys = ["keep", "model", "method", "schedule", "warning_text"]
    for key, group in grouped(nets.sort_values("keep", kind="stable"), keys):
        keep, model, method, schedule, warning = key
        seeds = f"seed{'s' * (len(group) > 1)} {', '.join(map(str, group.seed))}"
        found.append((f"{model} {method} {schedule} keep {keep:.2f} ({seeds})", str(warning)))
    return found


def _cut_through(runs: pd.DataFrame) -> str:
    pruned = _pruned(runs)
    warned = where(pruned, pruned.warnings > 0)
    if warned.empty:
        return ""
    nets = [f"{net}: {_shortened(warning)}" for net, warning in _by_seeds(warned)]
    count = f"{len(warned)} of {len(pruned)} pruned nets"
    return f"Layers cut through in {count}: {enumerate_some(nets, 'runs.csv')}."


def _shortened(warnings: str) -> str:
    """Leave the first few of a net's warnings, and say how many there are more."""
    layers = warnings.split(BETWEEN_WARNINGS)
    if len(layers) > _LAYERS + 1:
        layers[_LAYERS:] = [f"{len(layers) - _LAYERS} layers more"]
    return BETWEEN_WARNINGS.join(layers)


def _updates(runs: pd.DataFrame) -> str:
    """Say how the survivors of a cut adjust, where methods differ in it."""
    updated = where(_pruned(runs), runs["update"] != "")
    methods = {str(update): list(nets.method.unique()) for (update,), nets in grouped(updated, ["update"])}
    if len(methods) < 2:
        return ""
    which = "; ".join(f"{update} in {', '.join(names)}" for update, names in methods.items())
    return f"Update of the surviving weights after each cut, before fine-tuning: {which}."
