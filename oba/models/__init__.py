"""Nets: CIFAR ResNets and VGGs of any width, and whatever timm or torchvision can build.

:mod:`oba.models.names` says what a study may ask for and costs no torch; the names below are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oba.models.build import build_model
    from oba.models.weights import load_weights

__all__ = ["build_model", "load_weights"]

_HOMES = {"build_model": "build", "load_weights": "weights"}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'oba.models' has no attribute {name!r}")
    return getattr(importlib.import_module(f"oba.models.{_HOMES[name]}"), name)
