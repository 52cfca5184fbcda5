"""What is said of a data set before it is read is what it turns out to be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from oba.config import DataConfig
from oba.data.describe import describe
from oba.data.types import DataInfo
from oba.errors import ConfigError, DataError
from oba.files import read_json


def test_digits(digits: Path) -> None:
    described = describe(DataConfig(name="digits"))
    info = DataInfo.from_json(read_json(digits / "data.json"))
    assert described.classes == info.classes
    assert described.class_sizes == np.bincount(np.load(digits / "labels.npy")).tolist()
    assert described.images == info.train_images
    assert described.test_images == info.test_images == 0


def test_folder_with_its_own_test_set(tmp_path: Path) -> None:
    for name in ("train/a/1", "train/a/2", "train/b/1", "test/a/1", "test/b/1", "test/b/2"):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()  # nothing is opened
    described = describe(DataConfig(name="imagefolder", root=str(tmp_path)))
    assert described.classes == ["a", "b"]
    assert described.class_sizes == [2, 1]
    assert described.test_images == 3
    assert described.images == 6


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_is_described_before_it_is_downloaded(tmp_path: Path, name: str, classes: int) -> None:
    described = describe(DataConfig(name=name, root=str(tmp_path / "nowhere")))
    assert (len(described.classes), sum(described.class_sizes), described.test_images) == (classes, 50000, 10000)
    assert not (tmp_path / "nowhere").exists()


def test_what_the_study_decides_is_refused(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match=r"^data\.root: imagefolder needs the folder of the images$"):
        describe(DataConfig(name="imagefolder"))
    with pytest.raises(DataError, match=r"nowhere is not a folder$"):
        describe(DataConfig(name="imagefolder", root=str(tmp_path / "nowhere")))
    with pytest.raises(DataError, match=r"1 class folders; at least 2 are needed"):
        describe(DataConfig(name="imagefolder", root=str(make_folder({"a": 1}))))


def test_describing_imports_nothing_heavy() -> None:
    code = """
import sys
from oba.config import DataConfig
from oba.data.describe import describe
from oba.data.fingerprint import fingerprint
for name in ("digits", "cifar10", "cifar100"):
    describe(DataConfig(name=name))
print(sorted({"torch", "torchvision", "sklearn", "mlflow"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
