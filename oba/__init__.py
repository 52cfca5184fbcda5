"""Prune image classifiers with Optimal Brain Apoptosis, honestly and repeatably."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oba.pruning.replay import load_pruned as load_pruned

__version__ = "0.1.0"
__all__ = ["__version__", "load_pruned"]


def __getattr__(name: str) -> Any:
    """Import ``load_pruned`` on first use, so that ``import oba`` does not cost an import of torch."""
    if name == "load_pruned":
        from oba.pruning.replay import load_pruned

        return load_pruned
    raise AttributeError(f"module 'oba' has no attribute {name!r}")
