"""What MLflow shows of a job besides what its stage reports: the data that it read, and the net that it measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from oba.config import Study, TrackedModels
from oba.data.types import DataInfo
from oba.files import read_json, read_record
from oba.layout import NET_FILES, Coordinates, Layout
from oba.records import Evaluation
from oba.stages.descriptions import short_name
from oba.tracking import NetFiles, StageRun

_LOADER = "oba.export.pyfunc"
_WEIGHTS, _PLAN = NET_FILES[:2]
_CONTEXTS = {
    "prepare": "prepare",
    "split": "split",
    "dense": "train",
    "prune": "calibration",
    "finetune": "train",
    "scratch": "train",
    "evaluate": "test",
}
"""What the stages that read images do with them."""


def report_data(run: StageRun, study: Study, command: str, layout: Layout) -> None:
    """Report what data a stage reads, once it is prepared.

    Args:
        run: The stage's run.
        study: The study.
        command: The stage's command.
        layout: The experiment's paths.
    """
    path = layout.data / "data.json"
    if command not in _CONTEXTS or not path.exists():
        return
    info = DataInfo.from_json(read_json(path), path)
    profile = {"images": info.images, "classes": len(info.classes)}
    source = str(study.data.root or study.data.name)
    context = _CONTEXTS[command]
    run.dataset(study.data.name, digest=info.digest, source=source, profile=profile, context=context)


def report_net(run: StageRun, folder: Path, at: Coordinates, settings: TrackedModels, tags: Mapping[str, str]) -> None:
    """Report the net that a stage has evaluated.

    Args:
        run: The stage's run.
        folder: Where the net is.
        at: Its coordinates.
        settings: Up to what size MLflow gets the weights.
        tags: What its method consists of.
    """
    measured = read_record(folder / "evaluation.json", Evaluation)
    card = read_json(folder / _PLAN)["card"]
    size, classes = card["input_size"], card["num_classes"]
    small = (folder / _WEIGHTS).stat().st_size <= settings.max_mb * 1e6
    cost = {"macs": measured.cost.macs, "parameters": measured.cost.parameters}
    run.metrics(cost)
    net = NetFiles(folder, (_WEIGHTS, _PLAN) if small else (), _LOADER, size, classes)
    about = {"input_size": "x".join(map(str, size)), "classes": classes}
    # MLflow allows no full stop in it.
    name = short_name("", at).replace(f"keep{at.keep}", f"keep{at.keep[2:]}") if at.keep else short_name("", at)
    run.model(name, net, at.given() | dict(tags) | cost | about)
