"""Prune image classifiers with Optimal Brain Apoptosis, honestly and repeatably.

In five lines, without the pipeline::

    import oba

    small = oba.prune(model, images, keep=0.5, method="oba")

:func:`find_groups` says what could go, :func:`score` what it is worth, :func:`prune` returns the smaller net,
:func:`load_pruned` reads a stored one, and :func:`export_pruned` turns it into what runs without this project.
:func:`sensitivity` says what is lost when one group of structures shrinks alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oba.analysis.sensitivity import sensitivity as sensitivity
    from oba.export.export import export_pruned as export_pruned
    from oba.models.attention import open_attention as open_attention
    from oba.pruning.dependencies import find_groups as find_groups
    from oba.pruning.prune import prune as prune
    from oba.pruning.prune import score as score
    from oba.pruning.replay import load_pruned as load_pruned

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "export_pruned",
    "find_groups",
    "load_pruned",
    "open_attention",
    "prune",
    "score",
    "sensitivity",
]

_HOMES = {
    "export_pruned": "export.export",
    "find_groups": "pruning.dependencies",
    "load_pruned": "pruning.replay",
    "open_attention": "models.attention",
    "prune": "pruning.prune",
    "score": "pruning.prune",
    "sensitivity": "analysis.sensitivity",
}


def __getattr__(name: str) -> Any:
    """Import a public function on first use, so that ``import oba`` does not cost an import of torch."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"oba.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'oba' has no attribute {name!r}")
