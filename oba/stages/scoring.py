"""Scoring inside ``prune``: the calibration images through a criterion, and what that takes."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from oba.data.bundle import DataBundle
from oba.files import write_tensors
from oba.importance import StructureScores, score_structures
from oba.importance.effort import plain_gradient_seconds
from oba.pruning.method import Method
from oba.sections import PruneSections
from oba.stages.job import Job
from oba.structures import StructureGroup
from oba.training.device import derive_seed


@dataclass
class Scorer:
    """Scores a net's structures, round after round, on the same calibration images for every criterion of a seed.

    Attributes:
        job: The job.
        method: The method that it runs.
        bundle: Its images.
        kept: The scores of all rounds, if the study keeps them.
    """

    job: Job[PruneSections]
    method: Method
    bundle: DataBundle
    kept: dict[str, Tensor] = field(default_factory=dict)
    _seconds: float = 0.0
    _gradients: float = 0.0
    _rounds: int = 0

    def __call__(self, model: nn.Module, groups: Sequence[StructureGroup]) -> StructureScores:
        """Score one round.

        Args:
            model: The net as it is.
            groups: Its structures.

        Returns:
            What selection ranks.
        """
        images, batch_size = self.bundle.calibration, self.job.sections.calibration.batch_size
        # Every round draws again, and the same for all criteria that draw.
        criterion = self.method.criterion(derive_seed(self.job.seed, "scores", sum(map(len, groups))))
        gradient = plain_gradient_seconds(model, next(iter(images.batches(batch_size))), criterion.norm)
        start = time.perf_counter()
        found = score_structures(model, groups, images.batches(batch_size), criterion)
        batches = -(-len(images) // batch_size)
        seconds = (time.perf_counter() - start) / batches
        self._rounds += 1
        self._seconds += seconds
        self._gradients += seconds / gradient
        if self.method.config.keep_scores:
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
            path: The safetensors file: ``round1/<group>``, and ``round1/interactions`` where there are some.
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

    def _keep(self, found: StructureScores) -> None:
        tensors = {**found.alone, **{f"{name}:standard-error": e for name, e in (found.standard_error or {}).items()}}
        if found.interactions is not None:
            tensors["interactions"] = found.interactions.float()
        self.kept |= {f"round{self._rounds}/{name}": tensor.contiguous() for name, tensor in tensors.items()}
