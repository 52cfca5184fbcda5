"""What is noted of the scoring of all rounds of a level: its time, and the scores where the study keeps them."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oba.files import write_tensors


@dataclass
class Notes:
    """Notes of rounds, counted from 1.

    Attributes:
        rounds: Rounds that were scored.
        seconds: Seconds a batch, of all rounds together.
        gradients: The same in plain gradients of a batch.
        scores: ``round1/<group or weight>``, and ``round1/interactions`` where there are some, on the CPU.
    """

    rounds: int = 0
    seconds: float = 0.0
    gradients: float = 0.0
    scores: dict[str, Tensor] = field(default_factory=dict)

    def add(self, seconds: float, gradient: float) -> None:
        """Note a round's seconds a batch, beside those of a plain gradient."""
        self.rounds += 1
        self.seconds += seconds
        self.gradients += seconds / gradient

    def keep(self, scores: Mapping[str, Tensor]) -> None:
        """Keep the scores of the round that was noted last."""
        self.scores |= {f"round{self.rounds}/{name}": tensor.cpu().contiguous() for name, tensor in scores.items()}

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
            "scoring_seconds_per_batch": self.seconds / self.rounds,
            "scoring_gradients_per_batch": self.gradients / self.rounds,
            "peak_memory_bytes": float(peak),
        }

    def write(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write the kept scores with where they come from, or remove what an earlier run kept.

        Args:
            path: The safetensors file.
            about: Values for its header.
        """
        if self.scores:
            write_tensors(path, self.scores, about)
        else:
            path.unlink(missing_ok=True)

    def remember(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return all notes, as values and tensors."""
        return {"rounds": self.rounds, "seconds": self.seconds, "gradients": self.gradients}, self.scores

    def recall(self, values: Mapping[str, Any], scores: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`remember` returned."""
        self.rounds, self.seconds, self.gradients = values["rounds"], values["seconds"], values["gradients"]
        self.scores = dict(scores)
