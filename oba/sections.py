"""What each stage of the DAG sees of the study: a slice of it, and nothing else.

A stage's slice becomes the ``params`` of its rule, so that a change elsewhere in the study does not rerun it.
"""

from __future__ import annotations

from typing import Self

from oba.config import (
    AugmentConfig,
    DataConfig,
    DenseConfig,
    EvaluationConfig,
    PruningConfig,
    RuntimeConfig,
    ScoringConfig,
    Section,
    SplitsConfig,
    StructuresConfig,
    Study,
    TrainConfig,
)


class StageSections(Section):
    """The slice of a study that one stage may see: what it declares, and nothing else."""

    @classmethod
    def of(cls, study: Study) -> Self:
        """Cut the slice out of a study.

        Args:
            study: The whole study.

        Returns:
            The sections that this class names, as they are in the study.
        """
        values = {name: getattr(study, name) for name in cls.model_fields if name != "threads"}
        if "threads" in cls.model_fields:
            values["threads"] = getattr(study.threads, cls._threads_key())
        return cls.model_construct(**values)

    @classmethod
    def _threads_key(cls) -> str:
        return cls.__name__.removesuffix("Sections").lower()


class PrepareSections(StageSections):
    """What `prepare` sees."""

    data: DataConfig


class SplitSections(StageSections):
    """What `split` sees."""

    data: DataConfig
    splits: SplitsConfig


class StructuresSections(StageSections):
    """What `structures` sees."""

    structures: StructuresConfig


class CheckSections(StageSections):
    """What `check` sees."""

    pruning: PruningConfig
    keep: list[float]


class DenseSections(StageSections):
    """What `dense` sees."""

    augment: AugmentConfig
    dense: DenseConfig
    runtime: RuntimeConfig
    threads: int


class PruneSections(StageSections):
    """What `prune` sees."""

    scoring: ScoringConfig
    pruning: PruningConfig
    runtime: RuntimeConfig
    threads: int


class FinetuneSections(StageSections):
    """What `finetune` sees."""

    augment: AugmentConfig
    finetune: TrainConfig
    runtime: RuntimeConfig
    threads: int


class ScratchSections(StageSections):
    """What `scratch` sees."""

    augment: AugmentConfig
    dense: DenseConfig
    finetune: TrainConfig
    runtime: RuntimeConfig
    threads: int

    @classmethod
    def _threads_key(cls) -> str:
        return "finetune"


class EvaluateSections(StageSections):
    """What `evaluate` sees."""

    evaluation: EvaluationConfig
    runtime: RuntimeConfig
    threads: int


STAGES: dict[str, type[StageSections]] = {
    "prepare": PrepareSections,
    "split": SplitSections,
    "structures": StructuresSections,
    "check": CheckSections,
    "dense": DenseSections,
    "prune": PruneSections,
    "finetune": FinetuneSections,
    "scratch": ScratchSections,
    "evaluate": EvaluateSections,
}
"""The stages of the DAG that depend on the study, by name."""
