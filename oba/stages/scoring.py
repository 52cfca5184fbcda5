"""Scoring inside ``prune``: the calibration images through a criterion, and what that takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from oba.data.bundle import DataBundle
from oba.importance import StructureScores, score_structures
from oba.importance.criterion import Criterion
from oba.importance.effort import plain_gradient_seconds
from oba.importance.weights import weight_scores
from oba.models.weight_masks import Masks
from oba.pruning.method import Method
from oba.pruning.rounds import SavedRounds
from oba.sections import PruneSections
from oba.seeds import derive_seed
from oba.stages.job import Job, label_of
from oba.stages.notes import Notes
from oba.structures import StructureGroup

_Scores = TypeVar("_Scores")


@dataclass
class Scorer:
    """Scores what may go, round after round, on the same calibration images for every criterion of a seed.

    Attributes:
        job: The job.
        method: The method that it runs.
        bundle: Its images.
        notes: What scoring takes and, if the study keeps them, the scores.
    """

    job: Job[PruneSections]
    method: Method
    bundle: DataBundle
    notes: Notes = field(default_factory=Notes)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Go once through the calibration images."""
        return iter(self.bundle.calibration.batches(self.job.sections.calibration.batch_size))

    def structures(self, model: nn.Module, groups: Sequence[StructureGroup]) -> StructureScores:
        """Score the structures of one round."""
        left = sum(map(len, groups))
        found = self._timed(model, left, lambda by: score_structures(model, groups, self.batches(), by))
        tensors = {**found.alone, **{f"{name}:standard-error": e for name, e in (found.standard_error or {}).items()}}
        if found.interactions is not None:
            tensors["interactions"] = found.interactions.float()
        self._keep(tensors)
        return found

    def weights(self, model: nn.Module, masks: Masks) -> dict[str, Tensor]:
        """Score the single weights of one round."""
        left = sum(int(mask.sum()) for mask in masks.values())
        found = self._timed(model, left, lambda by: weight_scores(model, masks, self.batches(), by))
        self._keep(found)
        return found

    def saved_rounds(self) -> SavedRounds:
        """Return where the job saves its rounds, with these notes."""
        notes = self.notes
        return SavedRounds(self.job.state, label=label_of(self.job), remember=notes.remember, recall=notes.recall)

    def write(self, path: Path) -> None:
        """Write the kept scores with where they come from, or remove what an earlier run kept.

        Args:
            path: The safetensors file.
        """
        at = self.job.at
        about = {
            "method": at.method,
            "model": self.job.model_name,
            "seed": self.job.seed,
            "keep": at.keep,
            "criterion": self.method.config.criterion.model_dump(mode="json"),
            "examples": len(self.bundle.calibration),
        }
        self.notes.write(path, about)

    def _timed(self, model: nn.Module, left: int, score: Callable[[Criterion], _Scores]) -> _Scores:
        """Score one round of so many structures or weights, and note what it takes."""
        # Every round draws again, and the same for all criteria that draw.
        criterion = self.method.criterion(derive_seed(self.job.seed, "scores", left))
        gradient = plain_gradient_seconds(model, next(self.batches()), criterion.norm)
        start = time.perf_counter()
        found = score(criterion)
        batches = -(-len(self.bundle.calibration) // self.job.sections.calibration.batch_size)
        seconds = (time.perf_counter() - start) / batches
        self.notes.add(seconds, gradient)
        return found

    def _keep(self, scores: Mapping[str, Tensor]) -> None:
        """Keep the scores of the last round, if the study wants that."""
        if self.method.config.keep_scores:
            self.notes.keep(scores)
