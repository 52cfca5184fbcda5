"""From images to batches: a source, a prepared folder, splits, and batches on the device.

1. A *source* (one file in ``oba/data/sources``) finds the images of one kind of data set without opening any: either
   names of image files (:class:`ImageFiles`), or how to read arrays (:class:`ArraySource`). From this alone
   :func:`oba.data.describe.describe` tells how many images and classes there are, and
   :func:`oba.data.fingerprint.fingerprint` whether a file has changed.
2. :func:`oba.data.prepare.prepare` writes a folder, once per experiment, that always holds the same files.
   Images of at most 64 pixels an edge are decoded into ``images.npy`` (N, H, W, C; uint8), which is empty for larger
   ones: they stay where they are. ``names.npy`` and ``files.npy`` name the image files below ``root.json``, each with
   its size and digest. ``labels.npy`` (int64) and ``data.json`` (:class:`DataInfo`) go with both. The digest in
   ``data.json`` covers everything a result can depend on: equal content, equal digest.
3. :func:`make_splits` divides the images by a seed, class by class: `test` (unless the source has its own),
   `val` and `train`. Indices count the source's training images first, then its own test images.
   :func:`oba.data.duplicates.find_duplicates` finds identical images in two parts.
4. :func:`load_bundle` gives a :class:`DataBundle` of :class:`Split` with ``split.batches(...)``: `train`, `val`,
   `test`, and `calibration`, which is drawn from `train` when it is asked for: these images score structures, without
   augmentation, and train as well. Batches are padded, mirrored, normalised and erased as wholes, on the device; what
   changes single images (random crops of files, policies) is done by the processes that read them. The seed of an
   epoch and the image decide what is done to it and nothing else does, so that epoch 7 can be had without epochs 1 to
   6, in batches of any size, by any number of processes and ranks.

To add a data set, add one file ``oba/data/sources/<name>.py`` (``_`` for ``-``) with one function::

    def open_source(config: DataConfig) -> ArraySource | ImageFiles: ...

that is quick, because it also runs before every Snakemake run, and raises :class:`oba.errors.DataError` when the
images are not where they should be. An array source also names the files it will read, if a user may change them. The
file's name can then stand at ``data.name`` of a study; nothing needs to be registered. Import heavy libraries inside
:attr:`ArraySource.read`.

Steps 1 to 3 import neither torch nor torchvision (CIFAR's reader aside); hence the names below are imported on
first use. The functions ``prepare``, ``describe`` and ``fingerprint`` are imported from the modules of their names.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oba.data.bundle import DataBundle, Split, load_bundle
    from oba.data.splits import make_splits
    from oba.data.types import ArraySource, DataInfo, ImageArrays, ImageFiles, Splits

__all__ = [
    "ArraySource",
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
