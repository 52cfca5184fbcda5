"""What a study decides before anything runs: its mistakes, all at once, and what the sweep will be.

:func:`quick_check` looks at what costs no more than listing the images and imports no torch; Snakemake asks it
whenever it reads a study, dry runs included. :func:`validate` also builds every net once, traces its structures and
asks every method whether it can prune them; it runs before the first job.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from oba.config import ModelConfig, Study
from oba.data.calibration import check_calibration
from oba.data.describe import Description, describe, expected_input_size, train_images
from oba.data.splits import known_statistics
from oba.devices import check_device, check_gpus
from oba.errors import ConfigError, ModelError, ObaError
from oba.layout import RESULTS, nets
from oba.models.published import find_published
from oba.tracking import resolve_uri

if TYPE_CHECKING:
    from torch import nn

    from oba.pruning.cost import CostModel
    from oba.pruning.dependencies import Structures
    from oba.pruning.levels import Steps
    from oba.pruning.method import Method
    from oba.pruning.weights.levels import WeightSteps


class _Problems:
    """Errors that are gathered, to be told at once."""

    def __init__(self) -> None:
        self._found: list[ObaError] = []

    @contextmanager
    def gathered(self, where: str = "") -> Iterator[None]:
        """Keep an error of the block for later, with the key that it belongs to."""
        try:
            yield
        except ObaError as error:
            lines = [f"{where}{line}" for line in str(error).splitlines()]
            self._found.append(type(error)("\n".join(lines)))

    def tell(self) -> None:
        """Raise what was found, as an error of the first one's kind; one line for each."""
        if self._found:
            raise type(self._found[0])("\n".join(dict.fromkeys(map(str, self._found))))


@dataclass(frozen=True)
class _Net:
    """What there is to say of one model."""

    name: str
    parameters: int
    macs: int
    structures: Structures | None
    lowest: dict[str, float]
    weights: int | None
    warnings: list[str]


def quick_check(study: Study, *, local: bool = True) -> None:
    """Refuse what the study alone decides, without torch: data, calibration, tracking server, device, weights.

    Args:
        study: A study whose names are known to exist.
        local: Whether its jobs run on this machine, and not on the nodes of a cluster.

    Raises:
        ObaError: If anything is wrong: of the first mistake's kind, one line for each.
    """
    problems = _Problems()
    _check(study, local, problems)
    problems.tell()


def validate(study: Study, *, local: bool = True) -> str:
    """Check a study before its first job.

    Args:
        study: A study whose names are known to exist.
        local: Whether its jobs run on this machine, and not on the nodes of a cluster.

    Returns:
        What the sweep will be, for people: data, jobs, and of every model its size, structures and lowest levels.

    Raises:
        ObaError: If anything is wrong: of the first mistake's kind, one line for each.
    """
    problems = _Problems()
    data = _check(study, local, problems)
    if data is None:
        problems.tell()
    assert data is not None
    input_size = expected_input_size(study.data)
    found = []
    for model in study.models:
        with problems.gathered(f"models.{model.name}: "):
            found.append(_inspect(study, model, len(data.classes), input_size, problems))
    problems.tell()
    return "\n".join([_data_line(study, data, input_size), _sweep_line(study), *map(_net_lines, found)])


def _check(study: Study, local: bool, problems: _Problems) -> Description | None:
    """Gather what :func:`quick_check` tells; return what the data set is, unless it cannot be described."""
    data = None
    with problems.gathered():
        data = describe(study.data)
        check_calibration(study.calibration.images, train_images(data, study.splits))
    with problems.gathered():
        resolve_uri(study.tracking.uri, RESULTS)
    with problems.gathered():
        check_device(study.runtime.device, local)
    for stage, count in study.gpus.model_dump().items():
        with problems.gathered(f"gpus.{stage}: "):
            check_gpus(count, study.runtime.device, local)
    for model in study.models:
        with problems.gathered(f"models.{model.name}: "):
            _check_dense(model, study, data)
    return data


def _check_dense(model: ModelConfig, study: Study, data: Description | None) -> None:
    """Refuse weights that are not there, and weights that must have been trained on images that are to test them."""
    source = model.dense.source
    if source == "train":
        return
    if source == "pretrained":
        weights = find_published(model.name, model.dense.weights)
        if data is not None:
            weights.check_classes(len(data.classes), model.dense.replace_head)
        return
    if not Path(source).is_file():
        what = "is a folder" if Path(source).is_dir() else "no such weight file"
        raise ModelError(f"dense.from: {source}: {what}; allowed: 'train', 'pretrained' or a file that exists")
    if data is not None and not data.test_images and len(study.seeds) > 1:
        raise ConfigError(
            f"dense.from: {source}: {len(study.seeds)} seeds draw different test images from all images of "
            f"{study.data.name}, and the file's net was trained on most of them; allowed: the one seed whose test "
            "images it has not seen, or a data set with a test set of its own"
        )


def _pretrained_warnings(study: Study, model: ModelConfig, channels: int) -> list[str]:
    """Say what a net with published weights gets that it was not trained on; refuse it if it is not to train on."""
    weights = find_published(model.name, model.dense.weights)
    used = known_statistics(study.data)
    if model.dense.epochs == 0 and (mismatch := weights.mismatch(channels, used)):
        raise ConfigError(f"dense.epochs: got 0, but {mismatch}; allowed: these, or at least 1 epoch of training")
    return weights.warnings(channels, used)


def _inspect(
    study: Study, model: ModelConfig, classes: int, input_size: tuple[int, int, int], problems: _Problems
) -> _Net:
    """Build a net, trace it, and ask every method whether it can prune it to the lowest level."""
    from oba.models.build import build_model, classifier_of
    from oba.models.weights import check_weights
    from oba.pruning.cost import CostModel
    from oba.pruning.dependencies import find_structures
    from oba.pruning.method import Method
    from oba.pruning.problem import lowest_keep
    from oba.pruning.weights.levels import WeightSteps
    from oba.pruning.weights.prunable import prunable_weights

    where = f"models.{model.name}: "
    net = build_model(model.name, num_classes=classes, input_size=input_size)
    dense, warnings = model.dense, []
    if dense.source == "pretrained":
        with problems.gathered(where):
            warnings = _pretrained_warnings(study, model, input_size[0])
    elif Path(dense.source).is_file():
        with problems.gathered(where):
            head = classifier_of(model.name, net)
            check_weights(net, Path(dense.source), entry=dense.weights, head=head, replace_head=dense.replace_head)
    with problems.gathered(where):
        _check_rates(study, model, net, classes, input_size)
    wanted = model.structures
    by_structures = any(method.granularity == "structures" for method in study.methods)
    structures = find_structures(net, input_size, **wanted.model_dump()) if by_structures else None
    cost, lowest, weights = CostModel.of(net, input_size), {}, None
    for method in study.methods:
        with problems.gathered(where):
            ready = Method.of(method)
            if isinstance(ready.steps, WeightSteps):
                weights = prunable_weights(net, wanted.ignore)
                _require_weights(ready, ready.steps, net, weights, study.keep)
            elif structures is not None:
                lowest[method.name] = lowest_keep(structures.groups, cost, ready.steps.floors)
                _require_structures(ready, ready.steps, net, structures, cost, study.keep)
    may_go = sum(weight.numel() for weight in weights.values()) if weights else None
    return _Net(model.name, sum(p.numel() for p in net.parameters()), cost.macs, structures, lowest, may_go, warnings)


def _check_rates(
    study: Study, model: ModelConfig, net: nn.Module, classes: int, input_size: tuple[int, int, int]
) -> None:
    """Refuse rates of dropout and stochastic depth that a net has no place for."""
    from copy import deepcopy

    from oba.models.dropping import set_dropping, wanted_rates

    recipes = [model.dense, study.scratch, *(method.finetune for method in study.methods)]
    for rates in {tuple(wanted_rates(recipe).items()): None for recipe in recipes if recipe is not None}:
        if rates:
            sizes = {"num_classes": classes, "input_size": input_size}
            set_dropping(deepcopy(net), model.name, **sizes, rates=dict(rates))


def _require_structures(
    method: Method, steps: Steps, net: nn.Module, structures: Structures, cost: CostModel, keep: list[float]
) -> None:
    """Refuse structures that the criterion cannot score, and levels that the allocation cannot reach."""
    import torch

    from oba.importance.scores import StructureScores
    from oba.importance.state import left_as_found
    from oba.pruning.problem import Problem

    groups = structures.groups
    criterion = method.criterion(seed=0)
    with left_as_found(net, criterion.norm):
        criterion.require(net, groups)
    counts = {group.name: len(group) for group in groups}
    none = StructureScores({name: torch.zeros(count, dtype=torch.float64) for name, count in counts.items()})
    for level in keep:
        steps.allocation.require(Problem(groups, none, cost, level, steps.floors, counts, cost.macs))


def _require_weights(
    method: Method, steps: WeightSteps, net: nn.Module, weights: Mapping[str, nn.Parameter], keep: list[float]
) -> None:
    """Refuse weights that the criterion cannot score, and levels that the allocation cannot reach."""
    from oba.importance.state import left_as_found

    criterion = method.criterion(seed=0)
    with left_as_found(net, criterion.norm):
        criterion.require_weights(net, weights)
    for level in keep:
        steps.allocation.require({name: weight.shape for name, weight in weights.items()}, level)


def _data_line(study: Study, data: Description, input_size: tuple[int, int, int]) -> str:
    train = train_images(data, study.splits)
    val = f"{data.val_images:,} of its own to validate, " if data.val_images else ""
    test = f"{data.test_images:,} of its own to test" if data.test_images else "test images drawn by the seed"
    size = "x".join(map(str, input_size))
    images = f"{data.images:,} images of {size} in {len(data.classes)} classes"
    return f"data: {study.data.name}, {images}; {train:,} train, {val}{test}"


def _sweep_line(study: Study) -> str:
    kinds = Counter(net.variant for net in nets(study))
    jobs = {"dense": kinds["dense"], "prune": kinds["finetuned"], "finetune": kinds["finetuned"]}
    jobs |= {"scratch": kinds["scratch"], "evaluate": kinds.total()}
    axes = {"model": study.models, "seed": study.seeds, "method": study.methods, "schedule": study.schedules}
    sizes = [_counted(len(values), name) for name, values in {**axes, "level": study.keep}.items()]
    return f"sweep: {' x '.join(sizes)}; jobs: {', '.join(f'{n:,} {job}' for job, n in jobs.items() if n)}"


def _net_lines(net: _Net) -> str:
    """Describe a net: size, structures, lowest level of each method, and why the other layers stay whole."""
    lines = [f"{net.name}: {net.parameters:,} parameters, {net.macs:,} MACs"]
    if net.structures is not None:
        groups, whole = net.structures
        lines[0] += f"; {_counted(sum(map(len, groups)), 'structure')} in {_counted(len(groups), 'group')}"
        floors: dict[float, list[str]] = {}
        for method, keep in net.lowest.items():
            floors.setdefault(math.ceil(keep * 1e4) / 1e4, []).append(method)
        lowest = ", ".join(f"{keep:.4f} ({', '.join(methods)})" for keep, methods in floors.items())
        lines.append(f"  lowest keep: {lowest}")
        lines += [f"  kept whole: {_counted(n, 'layer')} ({why})" for why, n in Counter(whole.values()).most_common()]
    if net.weights is not None:
        lines.append(f"  single weights: {net.weights:,} may go")
    lines += [f"  warning: {warning}" for warning in net.warnings]
    return "\n".join(lines)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
