"""Everything that the page shows, as plain values. What is measured with a clock stands under names that say so."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from oba.files import read_json
from oba.report.collect import finished, finished_nets
from oba.report.frames import grouped, where
from oba.report.net import DENSE, Net
from oba.report.notes import alerts, missing_nets, notes, speed_notes
from oba.report.page.classes import classes
from oba.report.page.columns import as_columns
from oba.report.page.cost import stage_costs
from oba.report.page.facts import Facts
from oba.report.page.headline import headlines
from oba.report.page.layers import layers
from oba.report.page.origin import origin, shown_settings
from oba.report.page.trainings import trainings
from oba.report.style import in_order, line_styles

Gather = Callable[[Sequence[Net]], dict[str, Any]]
ROWS = 25_000
"""Nets that the page lists; ``runs.csv`` has all."""
_NET = ["model", "schedule", "keep", "method", "variant", "granularity"]
_OF_RECORDS = ("seconds", "device", "threads", "oba", "torch", "python", "host", "git", "time")
_ALSO = ["macs", "parameters", "latency_ms"]


def payload(nets: Sequence[Net], runs: pd.DataFrame, summary: pd.DataFrame, title: str, facts: Facts) -> dict[str, Any]:
    """Gather what the page shows.

    Args:
        nets: The nets of the sweep, in the order of the study.
        runs: The table of these nets.
        summary: The table of their means.
        title: Name of the experiment.
        facts: The study, the images and the jobs.

    Returns:
        Values that JSON can hold; the same for the same files.
    """
    there = {net.coordinates for net in finished_nets(nets, runs)}
    listed = list(nets[:ROWS])
    records = _records(facts)
    warnings, slow = alerts(summary, runs)
    about_speed = [note for note in speed_notes(summary, runs) if note not in slow]
    elsewhere = {*warnings, *slow, *about_speed}
    names = [str(name) for name in facts.data.get("classes", [])]
    return {
        "experiment": title,
        "data": _data(facts.data),
        "seeds": in_order(nets, "seed"),
        "methods": _methods(nets, summary),
        "nets": len(nets),
        "finished": len(there),
        "headlines": headlines(summary, runs),
        "alerts": warnings,
        "speedup_alerts": slow,
        "notes": [note for note in notes(summary, runs) if note not in elsewhere],
        "speedup_notes": about_speed,
        "missing": missing_nets(runs)[:ROWS],
        "summary": as_columns(_with_costs(summary, runs)),
        "runs": as_columns(runs.head(ROWS)),
        "trainings": _of_finished(trainings, listed, there),
        "layers": _of_finished(layers, listed, there),
        "classes": _of_finished(lambda chosen: classes(chosen, names), listed, there),
        "stages": stage_costs(facts.stages, records),
        "origin": origin(records.values()),
        "settings": shown_settings(facts.settings),
    }


def as_script(values: Mapping[str, Any]) -> str:
    """Return values as JSON that may stand in a script element: nothing in it can end the element.

    Args:
        values: Plain values.

    Returns:
        The text, without any ``<``, ``>`` or ``&``.
    """
    text = json.dumps(values, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _of_finished(gather: Gather, listed: Sequence[Net], there: set[tuple[Any, ...]]) -> dict[str, Any]:
    """Let a function gather from the finished nets, and count rows among all that are listed."""
    places = [place for place, net in enumerate(listed) if net.coordinates in there]
    found = gather([listed[place] for place in places])
    for entry in (*found.get("curves", ()), *found.get("nets", ())):
        entry["net"] = places[entry["net"]]
    for block in found.get("blocks", ()):
        for entry in block["nets"]:
            entry["net"] = places[entry["net"]]
    return found


def _records(facts: Facts) -> dict[Path, dict[str, Any]]:
    paths = [job.record for stage in facts.stages for job in stage.jobs]
    found = {path: read_json(path) for path in paths if path.exists()}
    return {path: {key: record[key] for key in _OF_RECORDS if key in record} for path, record in found.items()}


def _data(data: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: data[key] for key in ("name", "digest", "input_size") if key in data}
    images = sum(data.get(f"{part}_images", 0) for part in ("train", "val", "test"))
    return {**found, "images": images, "classes": len(data.get("classes", []))}


def _methods(nets: Sequence[Net], summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Name methods in the order of the study with the style of all pictures."""
    # As the pictures do: their order is that of the summary, then of what is missing there.
    order = list(dict.fromkeys([*summary.method.unique(), *in_order(nets, "method")]))
    styles = line_styles(order)
    found = []
    for name in order:
        parts = where(summary, summary.method == name)
        granularity = next((str(g) for g in parts.granularity if g), "")
        style = styles[str(name)]
        found.append({"name": name, "color": style.color, "marker": style.marker, "granularity": granularity})
    return sorted(found, key=lambda method: method["name"] != DENSE)


def _with_costs(summary: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Add mean costs to the rows of the summary."""
    kinds = dict.fromkeys(_ALSO, "float64")
    rows = [(*key, *group[_ALSO].mean()) for key, group in grouped(finished(runs).astype(kinds), _NET)]
    means = pd.DataFrame(rows, columns=pd.Index([*_NET, *_ALSO]))
    return summary.merge(means, on=_NET, how="left", validate="one_to_one")
