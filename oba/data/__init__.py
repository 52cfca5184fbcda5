"""The way of the images: from a source, over a prepared folder, to batches on the device.

1. A *source* (one file in ``oba/data/sources``) finds the images of one kind of data set and hands over
   either arrays (:class:`ImageArrays`) or the names of image files (:class:`ImageFiles`).
2. :func:`oba.data.prepare.prepare` writes them to a folder, once per experiment. Images of at most 64 pixels
   an edge are decoded into ``images.npy`` (N, H, W, C; uint8); larger ones stay where they are and ``files.json``
   names them, each with its size and digest. ``labels.npy`` (int64) and ``data.json`` (:class:`DataInfo`) go
   with both. The digest in ``data.json`` covers everything a result can depend on: equal content, equal digest.
3. :func:`make_splits` divides the images by a seed, class by class: `test` (unless the source has its own),
   `val` and `train`. `calibration` is drawn from `train`: these images score structures, without augmentation,
   and train as well. Indices count the source's training images first, then its own test images.
4. :func:`load_bundle` gives a :class:`DataBundle` of four :class:`Split` with ``split.batches(...)``. Batches are
   cropped, mirrored and normalised as wholes, on the device. The seed of an epoch decides its order *and* its
   augmentation and nothing else does, so that epoch 7 can be had without epochs 1 to 6, on any number of workers.

To add a data set, add one file ``oba/data/sources/<name>.py`` (``_`` for ``-``) with one function::

    def open_source(config: DataConfig) -> ImageArrays | ImageFiles: ...

that raises :class:`oba.errors.DataError` when images are missing or damaged. Its name can then stand at
``data.name`` of a study; nothing needs to be registered. Import heavy libraries inside the function.

Steps 1 to 3 import neither torch nor torchvision (CIFAR's reader aside); hence the names below are imported on
first use. The function ``prepare`` is imported from its module, whose name it shares.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oba.data.bundle import DataBundle, Split, load_bundle
    from oba.data.splits import make_splits
    from oba.data.types import DataInfo, ImageArrays, ImageFiles, Splits

__all__ = [
    "DataBundle",
    "DataInfo",
    "ImageArrays",
    "ImageFiles",
    "Split",
    "Splits",
    "load_bundle",
    "make_splits",
]

_MODULES = {"bundle": ("DataBundle", "Split", "load_bundle"), "splits": ("make_splits",)}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    if name not in __all__:
        raise AttributeError(f"module 'oba.data' has no attribute {name!r}")
    return getattr(importlib.import_module(f"oba.data.{_HOMES.get(name, 'types')}"), name)
