"""What CIFAR-10 and CIFAR-100 share."""

from __future__ import annotations

import tarfile
import warnings
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from oba.data.types import ImageArrays
from oba.datasets import DataConfig
from oba.errors import DataError

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10


def read_cifar(dataset: type[CIFAR10], config: DataConfig) -> ImageArrays:
    """Read one of torchvision's CIFAR classes, whose checksums guard the content; download what is not there."""
    root = Path(config.root or f"data/{config.name}").expanduser()
    folder = root / dataset.base_folder
    try:
        with warnings.catch_warnings():
            # numpy 2.4.0 warns about the type descriptions of the early numpy that wrote the files.
            warnings.filterwarnings("ignore", message=r".*align should be passed", category=Warning)
            train = dataset(str(root), train=True, download=not folder.exists())
            test = dataset(str(root), train=False)
    except (OSError, RuntimeError, EOFError, HTTPException, tarfile.TarError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"data.root: {config.name} could not be read from {folder}, nor downloaded ({reason}); put "
            f"{dataset.filename} (md5 {dataset.tgz_md5}, from {dataset.url}) into {root}; where {folder} is damaged, "
            "remove it"
        ) from error
    return ImageArrays(
        classes=list(train.classes),
        images=np.concatenate([train.data, test.data]),
        labels=np.array(train.targets + test.targets, dtype=np.int64),
        test_images=len(test.targets),
    )
