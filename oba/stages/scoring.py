"""Scoring inside ``prune``: the calibration images through a criterion, and what that takes."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from oba.data.bundle import DataBundle
from oba.files import write_tensors
from oba.importance import StructureScores, score_structures
from oba.importance.criterion import Criterion
from oba.importance.effort import plain_gradient_seconds
from oba.importance.weights import weight_scores
from oba.models.weight_masks import Masks
from oba.pruning.method import Method
from oba.sections import PruneSections
from oba.seeds import derive_seed
from oba.stages.job import Job
from oba.structures import StructureGroup

_Scores = TypeVar("_Scores")


@dataclass
class Scorer:
    """Scores what may go, round after round, on the same calibration images for every criterion of a seed.

    Attributes:
        job: The job.
        method: The method that it runs.
        bundle: Its images.
        kept: The scores of all rounds, on the CPU, if the study keeps them.
    """

    job: Job[PruneSections]
    method: Method
    bundle: DataBundle
    kept: dict[str, Tensor] = field(default_factory=dict)
    _seconds: float = 0.0
    _gradients: float = 0.0
    _rounds: int = 0

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

    def effort(self) -> dict[str, float]:
        """Return what scoring took, as means over rounds.

        Returns:
            Seconds a batch, the same in plain gradients of a batch, and the peak memory in bytes: of the process, or of
            the GPU where there is one.
        """
        if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
            peak = torch.cuda.max_memory_allocated()
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            "scoring_seconds_per_batch": self._seconds / self._rounds,
            "scoring_gradients_per_batch": self._gradients / self._rounds,
            "peak_memory_bytes": float(peak),
        }

    def write(self, path: Path) -> None:
        """Write the kept scores with where they come from, or remove what an earlier run kept.

        Args:
            path: The safetensors file: ``round1/<group or weight>``, and ``round1/interactions`` where there are some.
        """
        if not self.kept:
            path.unlink(missing_ok=True)
            return
        at = self.job.at
        about = {
            "method": at.method,
            "model": self.job.model_name,
            "seed": str(self.job.seed),
            "keep": at.keep,
            "criterion": json.dumps(self.method.config.criterion.model_dump(), sort_keys=True),
            "examples": str(len(self.bundle.calibration)),
        }
        write_tensors(path, self.kept, about)

    def _timed(self, model: nn.Module, left: int, score: Callable[[Criterion], _Scores]) -> _Scores:
        """Score one round of so many structures or weights, and note what it takes."""
        # Every round draws again, and the same for all criteria that draw.
        criterion = self.method.criterion(derive_seed(self.job.seed, "scores", left))
        gradient = plain_gradient_seconds(model, next(self.batches()), criterion.norm)
        start = time.perf_counter()
        found = score(criterion)
        batches = -(-len(self.bundle.calibration) // self.job.sections.calibration.batch_size)
        seconds = (time.perf_counter() - start) / batches
        self._rounds += 1
        self._seconds += seconds
        self._gradients += seconds / gradient
        return found

    def _keep(self, scores: Mapping[str, Tensor]) -> None:
        """Remember the scores of the last round, if the study keeps them."""
        if self.method.config.keep_scores:
            self.kept |= {f"round{self._rounds}/{name}": tensor.cpu().contiguous() for name, tensor in scores.items()}
