"""What each stage of the DAG sees of the study: a slice of it, and nothing else.

A stage's slice becomes the ``params`` of its rule, so that a change elsewhere in the study does not rerun it. Of what
the study has for every model and every method, a job sees that of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, get_args

from oba.config import EvaluationConfig, MethodConfig, StructuresConfig, Study
from oba.datasets import AugmentConfig, CalibrationConfig, DataConfig, SplitsConfig
from oba.layout import DENSE_LONGER, Coordinates, finetune_of, method_of, model_of, prunes_weights
from oba.machine import DeviceConfig, RuntimeConfig
from oba.recipes import DenseConfig, FinetuneConfig, ScratchConfig
from oba.section import Section

_OWN: dict[str, Callable[[Study, Coordinates], Any]] = {
    "dense": lambda study, at: model_of(study, at.model).dense,
    "structures": lambda study, at: model_of(study, at.model).structures,
    "prunable": lambda study, at: model_of(study, at.model).structures if prunes_weights(study, at) else None,
    "method": lambda study, at: None if at.method == DENSE_LONGER else method_of(study, at.method),
    "finetune": finetune_of,
}
"""Sections that are not simply those of the study, but a model's or a method's own."""
PER_STAGE = ("threads", "gpus")
"""Sections with a number for each kind of stage, of which a stage sees its own."""


class StageSections(Section):
    """The slice of a study that one stage may see: what it declares, and nothing else."""

    @classmethod
    def of(cls, study: Study, at: Coordinates) -> Self:
        """Cut the slice out of a study.

        Args:
            study: The whole study.
            at: The job's coordinates.

        Returns:
            The sections that this class names, as they are in the study.
        """
        values: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            if name in PER_STAGE:
                values[name] = getattr(getattr(study, name), cls.kind())
            else:
                whole = _OWN[name](study, at) if name in _OWN else getattr(study, name)
                values[name] = _part(whole, field.annotation)
        return cls.model_construct(**values)

    @classmethod
    def kind(cls) -> str:
        """Name the kind of stage by which the study gives threads and GPUs."""
        return cls.__name__.removesuffix("Sections").lower()


def _part(section: Any, declared: Any) -> Any:
    """Return what a stage sees of a section: the keys of the class that it declares, which may be a base class."""
    for kind in get_args(declared) or (declared,):
        if kind is not type(section) and isinstance(kind, type) and isinstance(section, kind):
            return kind.model_construct(**{name: getattr(section, name) for name in kind.model_fields})
    return section


class PrepareSections(StageSections):
    """What `prepare` sees."""

    data: DataConfig


class SplitSections(StageSections):
    """What `split` sees."""

    data: DataConfig
    splits: SplitsConfig


class TraceSections(StageSections):
    """What `trace` sees."""

    structures: StructuresConfig


class DenseSections(StageSections):
    """What `dense` sees."""

    augment: AugmentConfig
    dense: DenseConfig
    runtime: RuntimeConfig
    threads: int
    gpus: int


class PruneSections(StageSections):
    """What `prune` sees."""

    calibration: CalibrationConfig
    method: MethodConfig | None
    prunable: StructuresConfig | None
    runtime: DeviceConfig
    threads: int
    gpus: int


class FinetuneSections(StageSections):
    """What `finetune` sees."""

    augment: AugmentConfig
    finetune: FinetuneConfig
    runtime: RuntimeConfig
    threads: int
    gpus: int


class ScratchSections(StageSections):
    """What `scratch` sees."""

    augment: AugmentConfig
    dense: DenseConfig
    scratch: ScratchConfig | None
    runtime: RuntimeConfig
    threads: int
    gpus: int

    @classmethod
    def kind(cls) -> str:
        """Return the kind whose numbers hold for this control."""
        return "finetune"


class EvaluateSections(StageSections):
    """What `evaluate` sees."""

    evaluation: EvaluationConfig
    runtime: DeviceConfig
    threads: int
    gpus: int


STAGES: dict[str, type[StageSections]] = {
    "prepare": PrepareSections,
    "split": SplitSections,
    "trace": TraceSections,
    "dense": DenseSections,
    "prune": PruneSections,
    "finetune": FinetuneSections,
    "scratch": ScratchSections,
    "evaluate": EvaluateSections,
}
"""The stages of the DAG that depend on the study, by name."""
