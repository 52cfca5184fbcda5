"""What is said of a data set before it is read is what it turns out to be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oba.data.describe import describe, expected_input_size, train_images
from oba.data.prepare import prepare
from oba.data.splits import make_splits
from oba.data.types import DataInfo
from oba.datasets import DataConfig, SplitsConfig
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


def test_folder_with_its_own_validation_set(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    counts = {"train/a": 4, "train/b": 6, "val/a": 1, "val/b": 2, "test/a": 2, "test/b": 2}
    data = DataConfig(name="imagefolder", root=str(make_folder(counts)))
    described = describe(data)
    assert (described.class_sizes, described.val_images, described.test_images) == ([4, 6], 3, 4)
    assert described.images == 17
    prepare(data, tmp_path / "out")
    splits = make_splits(tmp_path / "out", data, SplitsConfig(), 0)
    assert train_images(described, SplitsConfig()) == len(splits.train) == 10


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
from oba.datasets import DataConfig
from oba.data.describe import describe
from oba.data.fingerprint import fingerprint
for name in ("digits", "cifar10", "cifar100"):
    describe(DataConfig(name=name))
print(sorted({"torch", "torchvision", "sklearn", "mlflow"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
def test_a_few_images_tell_how_nets_will_see_all(
    make_folder: Callable[..., Path], tmp_path: Path, mode: str, channels: int
) -> None:
    data = DataConfig(name="imagefolder", root=str(make_folder({"a": 20, "b": 20}, size=(10, 12), mode=mode)))
    info = prepare(data, tmp_path / "prepared")
    assert expected_input_size(data) == info.input_size
    assert info.input_size[0] == channels
    assert expected_input_size(data.model_copy(update={"image_size": 8})) == (channels, 8, 8)


def test_a_coloured_image_among_grey_ones_makes_all_coloured(make_folder: Callable[..., Path]) -> None:
    root = make_folder({"a": 3, "b": 3}, mode="L")
    Image.new("RGB", (12, 12)).save(root / "b" / "coloured.png")
    assert expected_input_size(DataConfig(name="imagefolder", root=str(root))) == (3, 12, 12)


def test_files_that_are_no_images_are_refused(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.png").touch()
    with pytest.raises(DataError, match=r"^data\.root: none of the files .* can be read as an image$"):
        expected_input_size(DataConfig(name="imagefolder", root=str(tmp_path)))


def test_arrays_have_a_size_before_they_are_read(digits: Path) -> None:
    info = DataInfo.from_json(read_json(digits / "data.json"))
    assert expected_input_size(DataConfig(name="digits")) == info.input_size
    assert expected_input_size(DataConfig(name="cifar10")) == (3, 32, 32)
