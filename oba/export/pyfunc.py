"""Loads a stored net for MLflow's ``python_function`` flavour: from plan and weights, without unpickling.

``MLmodel`` names this module, and MLflow calls ``_load_pyfunc`` with the folder that it lies in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from oba.errors import ModelError
from oba.export.graph import Normalizing
from oba.pruning.replay import load_pruned, read_plan


class Classifier:
    """A net as MLflow calls it."""

    def __init__(self, folder: Path) -> None:
        """Load the net on the CPU.

        Args:
            folder: Where its plan and weights are.
        """
        card, _ = read_plan(folder)
        self._net = load_pruned(folder)
        self._size = tuple(card.input_size)
        self._normalizing = Normalizing(self._net, card.mean, card.std).eval()

    def predict(self, images: Any, params: dict[str, Any] | None = None) -> np.ndarray:
        """Classify images, which are normalised here.

        Args:
            images: An array of shape (N, C, H, W), in [0, 1].
            params: Nothing; MLflow passes it.

        Returns:
            Logits, shape (N, classes).

        Raises:
            ModelError: If the images are of another shape.
        """
        batch = torch.as_tensor(np.array(images, dtype=np.float32))
        if batch.ndim != 4 or tuple(batch.shape[1:]) != self._size:
            wanted = ", ".join(map(str, self._size))
            raise ModelError(f"images have shape {tuple(batch.shape)}; allowed: (N, {wanted}), values in [0, 1]")
        with torch.inference_mode():
            return self._normalizing(batch).numpy()

    def get_raw_model(self) -> nn.Module:
        """Return the net itself, in eval mode; it takes images that are normalised already."""
        return self._net


def _load_pyfunc(path: str) -> Classifier:
    """Load what ``MLmodel`` lies beside."""
    return Classifier(Path(path))
