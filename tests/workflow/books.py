"""What two runs of a study must agree in, bit for bit: everything but times, memory and names of MLflow's own."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from oba.files import digest_file

CLOCKS = re.compile(r"seconds|_ms$|speedup|per_second|gradients_per_batch|memory|^time$")
"""Names of what differs from run to run."""
_NO_RESULTS = {".state", "logs", "benchmarks", "journal"}
_OWN = {"inputs", "outputs", "key", "seal"}
"""Of records: digests of files that hold times."""
_OWN_TAGS = {"stage_attempt", "mlflow.parentRunId", "superseded_by", "files"}
_NOTE = "mlflow.note.content"
_LOAD = "system/cpu", "system/system_", "system/gpu"
"""How busy the machine was: of stages that take long, which depends on the day."""


def contents(experiment: Path) -> dict[str, Any]:
    """Return what the files of an experiment say, by name."""
    found = {}
    for path in sorted(path for path in experiment.rglob("*") if path.is_file()):
        name = path.relative_to(experiment)
        if name.parts[0] not in _NO_RESULTS:
            found[name.as_posix()] = _content(path)
    return found


def _content(path: Path) -> Any:
    if path.suffix == ".json":
        return _timeless(json.loads(path.read_text()))
    if path.suffix == ".csv":
        with path.open() as stream:
            return [_timeless(row) for row in csv.DictReader(stream)]
    if path.suffix == ".md":
        return list(_timeless_lines(path.read_text()))
    if path.suffix == ".html":
        return _page(path.read_text())
    if path.suffix == ".safetensors":
        return _tensors(path.read_bytes())
    return "picture" if path.suffix == ".png" else digest_file(path)


def _page(text: str) -> Any:
    """Return the values that a page shows, without times, and a digest of all that stands around them."""
    before, start, rest = text.partition('<script type="application/json" id="data">')
    values, end, after = rest.partition("</script>")
    assert start, "a page without values"
    assert end, "a page without an end"
    return {"values": _timeless(json.loads(values)), "page": hashlib.sha256((before + after).encode()).hexdigest()}


def _tensors(data: bytes) -> Any:
    """Return a weight file's header, without what its metadata say of time, and a digest of its tensors."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header["__metadata__"] = _timeless(header.get("__metadata__", {}))
    return {"header": header, "tensors": hashlib.sha256(data[start:]).hexdigest()}


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if not CLOCKS.search(k) and k not in _OWN}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def _timeless_lines(text: str) -> Iterator[str]:
    """Return the lines of a page without the column, and the remarks, that tell of speed."""
    speed = None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 1:
            speed = None
        elif "speedup" in cells:
            speed = cells.index("speedup")
        if speed is not None:
            del cells[speed]
        if len(cells) > 1 or not re.search("speedup|latency", line, re.IGNORECASE):
            yield "|".join(cells)


def runs(database: Path) -> dict[str, Any]:
    """Return what MLflow's store says of the current run of each stage and chain, by its key.

    Args:
        database: The SQLite file.

    Returns:
        Names, states, parameters, tags, points and artifacts.
    """
    store = sqlite3.connect(database)
    tags: dict[str, dict[str, str]] = {}
    for run, key, value in store.execute("select run_uuid, key, value from tags"):
        tags.setdefault(run, {})[key] = value
    found: dict[str, Any] = {}
    for run, name, status, stage in store.execute("select run_uuid, name, status, lifecycle_stage from runs"):
        mine = tags[run]
        if stage != "active" or "superseded_by" in mine:
            continue
        points = store.execute("select key, step, value from metrics where run_uuid = ? order by key, step", (run,))
        [(artifacts,)] = store.execute("select artifact_uri from runs where run_uuid = ?", (run,))
        folder = Path(artifacts.removeprefix("file://"))
        current = {
            "name": name,
            "status": status,
            "params": dict(store.execute("select key, value from params where run_uuid = ?", (run,))),
            "tags": {key: value for key, value in mine.items() if key not in _OWN_TAGS},
            "parent": tags.get(mine.get("mlflow.parentRunId", ""), {}).get("stage_key"),
            "points": _points(row for row in points if not row[0].startswith(_LOAD)),
            "models": [_model(store, *row) for row in store.execute(_MODELS, (run,))],
            "data": store.execute(_DATA, (run,)).fetchall(),
            "artifacts": sorted(path.name for path in folder.glob("**/*") if path.is_file()),
        }
        found.setdefault(mine["stage_key"], []).append(current)
    return found


_MODELS = (
    "select model_id, name, status, artifact_location from logged_models "
    "where source_run_id = ? and lifecycle_stage = 'active'"
)
_DATA = (
    "select d.name, d.digest, t.value from inputs i join datasets d on i.source_id = d.dataset_uuid "
    "join input_tags t on t.input_uuid = i.input_uuid where i.destination_id = ? order by 1, 2, 3"
)


def _points(rows: Iterable[tuple[str, int, float]]) -> list[tuple[str, int, Any]]:
    return [(key, step, "clock" if CLOCKS.search(key) else value) for key, step, value in rows]


def _model(store: sqlite3.Connection, model: str, name: str, status: int, location: str) -> dict[str, Any]:
    """Return what a logged model says but for names of MLflow's own; its description has some, and a path."""
    tags = dict(store.execute("select tag_key, tag_value from logged_model_tags where model_id = ?", (model,)))
    assert "superseded_by" not in tags, f"{name} was replaced, and its run was not"
    measures = (
        "select metric_name, metric_step, metric_value from logged_model_metrics where model_id = ? order by 1, 2"
    )
    linked = "select count(*) from inputs where destination_type = 'MODEL_OUTPUT' and destination_id = ?"
    return {
        "name": name,
        "status": status,
        "params": dict(
            store.execute("select param_key, param_value from logged_model_params where model_id = ?", (model,))
        ),
        "tags": {key: value for key, value in tags.items() if key not in _OWN_TAGS | {_NOTE}},
        "described": _NOTE in tags,
        "points": _points(store.execute(measures, (model,))),
        "links": store.execute(linked, (model,)).fetchone(),
        "files": sorted(path.name for path in Path(location.removeprefix("file://")).iterdir()),
    }


def faults(database: Path) -> list[str]:
    """Return what no store may hold: open runs, what stands twice, stages with several current runs, lost models."""
    store = sqlite3.connect(database)
    found = [f"{name} is RUNNING" for (name,) in store.execute("select name from runs where status = 'RUNNING'")]
    doubled = "select run_uuid, key, step, count(*) from metrics group by 1, 2, 3 having count(*) > 1"
    found += [f"run {run}: {count} points {key} at step {step}" for run, key, step, count in store.execute(doubled)]
    twice = "select model_id, metric_name, metric_step, count(*) from logged_model_metrics group by 1, 2, 3 "
    twice += "having count(*) > 1"
    found += [f"model {model}: {count} points {key} at step {step}" for model, key, step, count in store.execute(twice)]
    current = runs(database)
    found += [f"{key} has {len(same)} current runs" for key, same in current.items() if len(same) != 1]
    found += [
        f"{key}: {len(run['models'])} models"
        for key, same in current.items()
        for run in same
        if _wants(key) != len(run["models"])
    ]
    return found


def _wants(key: str) -> int:
    """Return how many models the run of a key has: one, if it evaluates a net."""
    return int(key.endswith("/evaluation-run"))


def differences(expected: Any, found: Any, where: str = "") -> Iterator[str]:
    """Say in one line each where nested values differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys(), key=str):
            place = f"{where}/{key}" if where else str(key)
            if key not in found:
                yield f"{place}: missing"
            elif key not in expected:
                yield f"{place}: not expected"
            else:
                yield from differences(expected[key], found[key], place)
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, pair in enumerate(zip(expected, found, strict=True)):
            yield from differences(*pair, f"{where}[{index}]")
    elif expected != found:
        yield f"{where}: {str(found)[:200]}, not {str(expected)[:200]}"


def unlike(reference: Path, root: Path, experiment: str) -> list[str]:
    """Return in what a project's results and MLflow's store differ from those of one that nothing was killed in."""
    names, store = f"results/{experiment}", "results/mlflow.db"
    found = [*differences(contents(reference / names), contents(root / names))]
    found += differences(runs(reference / store), runs(root / store))
    return found + faults(root / store)
