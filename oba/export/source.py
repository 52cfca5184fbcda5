"""What is exported: a stored net, and what the pipeline left beside it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict
from torch import Tensor, nn

from oba.data.types import DataInfo
from oba.errors import ConfigError, FileError, ModelError
from oba.files import read_json, read_record
from oba.models import build_model
from oba.models.attention import open_attention
from oba.models.names import check_name
from oba.models.stored import PLAN, ModelCard
from oba.pruning.plan import Plan
from oba.pruning.replay import load_masked, read_plan
from oba.records import Evaluation, JobRecord, Pruned, Record, Trained
from oba.training.device import seeded


class Git(Record):
    """The commit that a stage ran from; None outside of a checkout."""

    commit: str | None
    dirty: bool | None


class Made(JobRecord):
    """``run.json`` of a net, as far as a card tells it."""

    model_config = ConfigDict(extra="ignore")

    stage: str
    at: dict[str, str]
    oba: str
    torch: str
    python: str
    git: Git
    time: str


@dataclass(frozen=True)
class History:
    """What the pipeline left beside a net; None where it left nothing.

    Attributes:
        made: The record of the stage that made the net.
        trained: The measures of its last training.
        pruned: The measures of its last pruning.
        method: The settings of the method that pruned it.
        evaluation: Its measures on the test images.
        data: The images.
    """

    made: Made | None = None
    trained: Trained | None = None
    pruned: Pruned | None = None
    method: dict[str, Any] | None = None
    evaluation: Evaluation | None = None
    data: DataInfo | None = None


@dataclass(frozen=True)
class Source:
    """A stored net.

    Attributes:
        net: The net, on the CPU, in eval mode.
        masks: What is kept of its weights, where single weights went.
        dense: Its dense architecture, in eval mode; weights are of no meaning.
        card: What rebuilds the dense architecture, and feeds it.
        plan: What is left of it.
        named: Whether the dense architecture is known by its name.
        history: What the pipeline left beside the net.
    """

    net: nn.Module
    masks: dict[str, Tensor]
    dense: nn.Module
    card: ModelCard
    plan: Plan
    named: bool
    history: History


def read_source(directory: Path, dense: nn.Module | None = None) -> Source:
    """Read a stored net and its history.

    Args:
        directory: A folder that :func:`oba.load_pruned` reads.
        dense: The dense architecture, of a net that is not known by name; left as found.

    Returns:
        The net.

    Raises:
        FileError: If the folder holds no net, or a file is damaged.
        ModelError: If the dense architecture is neither known by name nor given.
    """
    if not (directory / PLAN).is_file():
        raise FileError(
            f"{directory}: holds no stored net, for there is no {PLAN}; allowed: what oba.load_pruned reads, "
            "such as …/keep0.40/finetuned, …/keep0.40/pruned or …/dense"
        )
    card, plan = read_plan(directory)
    if dense is None:
        try:
            check_name(card.name, "its architecture")
        except ConfigError as error:
            raise ModelError(
                f"{directory}: {error}; for a net of your own, call oba.export_pruned(directory, output, dense=model)"
            ) from error
    net, masks = load_masked(directory, dense)
    if dense is None:
        with seeded(0):
            whole = build_model(card.name, num_classes=card.num_classes, input_size=card.input_size)
    else:
        whole = open_attention(copy.deepcopy(dense).cpu())
    return Source(net, masks, whole.eval(), card, plan, dense is None, read_history(directory))


def read_history(directory: Path) -> History:
    """Read what the pipeline left beside a net.

    Args:
        directory: The net's folder; one that did not come from the pipeline has no history.

    Returns:
        The history.
    """
    directory = directory.resolve()
    made = _record(directory / "run.json", Made)
    if made is None:
        return History()
    measures = directory / "metrics.json"
    by = directory if made.stage == "prune" else directory.parent / "pruned"
    pruned = by if made.stage in {"prune", "finetune", "scratch"} else None
    pruning = _record(pruned / "run.json", Made) if pruned else None
    return History(
        made=made,
        trained=None if made.stage == "prune" else _record(measures, Trained),
        pruned=_record(pruned / "metrics.json", Pruned) if pruned else None,
        method=pruning.settings.get("method") if pruning else None,
        evaluation=_record(directory / "evaluation.json", Evaluation),
        data=_data(directory.parents, made),
    )


def _record(path: Path, kind: type) -> Any:
    """Read a record where there is one."""
    return read_record(path, kind) if path.is_file() else None


def _data(parents: Sequence[Path], made: Made) -> DataInfo | None:
    """Read what the net's experiment says of its images: its folder is above those of model, seed, chain and level."""
    depth = 4 if "keep" in made.at else 2
    path = parents[depth] / "data" / "data.json" if depth < len(parents) else None
    return DataInfo.from_json(read_json(path), path) if path and path.is_file() else None
