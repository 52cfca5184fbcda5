"""Layouts of image folders, and everything that can be wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from oba.data.sources.imagefolder import open_source
from oba.datasets import DataConfig
from oba.errors import ConfigError, DataError


def make(root: Path, *files: str) -> DataConfig:
    """Make files; nothing is opened while they are listed, so that they may be empty."""
    for file in files:
        path = root / file
        if file.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return DataConfig(name="imagefolder", root=str(root))


def test_train_and_test(tmp_path: Path) -> None:
    source = open_source(
        make(tmp_path, "train/b/1.jpg", "train/a/2.JPG", "train/a/1.png", "test/b/1.jpeg", "test/a/1.Png")
    )
    assert source.classes == ["a", "b"]
    assert source.files == ["train/a/1.png", "train/a/2.JPG", "train/b/1.jpg", "test/a/1.Png", "test/b/1.jpeg"]
    assert source.labels.tolist() == [0, 0, 1, 0, 1]
    assert source.test_images == 2


def test_imagenets_names(tmp_path: Path) -> None:
    source = open_source(
        make(
            tmp_path,
            "train/n01440764/n01440764_18.JPEG",
            "train/n01443537/n01443537_2.JPEG",
            "val/n01440764/ILSVRC2012_val_00000293.JPEG",
            "val/n01443537/ILSVRC2012_val_00000236.JPEG",
        )
    )
    assert source.classes == ["n01440764", "n01443537"]
    assert source.files[2:] == [
        "val/n01440764/ILSVRC2012_val_00000293.JPEG",
        "val/n01443537/ILSVRC2012_val_00000236.JPEG",
    ]
    assert (source.labels.tolist(), source.test_images) == ([0, 1, 0, 1], 2)


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_without_test(tmp_path: Path, prefix: str) -> None:
    source = open_source(make(tmp_path, f"{prefix}b/1.jpg", f"{prefix}a/1.jpg"))
    assert source.files == [f"{prefix}a/1.jpg", f"{prefix}b/1.jpg"]
    assert source.test_images == 0


def test_hidden_and_other_files_do_not_count(tmp_path: Path) -> None:
    source = open_source(make(tmp_path, "a/1.jpg", "a/._1.jpg", "a/notes.txt", "b/1.jpg", ".cache/1.jpg", "README.md"))
    assert source.files == ["a/1.jpg", "b/1.jpg"]


def test_root_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"^data\.root: imagefolder needs"):
        open_source(DataConfig(name="imagefolder"))


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^data\.root: .*/nowhere is not a folder$"):
        open_source(DataConfig(name="imagefolder", root=str(tmp_path / "nowhere")))


@pytest.mark.parametrize("files", [(), ("1.jpg",), ("a/1.jpg",)])
def test_too_few_classes(tmp_path: Path, files: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"has [01] class folders; at least 2 are needed"):
        open_source(make(tmp_path, *files))


def test_empty_classes_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 class folders in .* hold no images: b, c; allowed: \.jpg, \.jpeg, \.png"):
        open_source(make(tmp_path, "a/1.jpg", "b/", "c/inside/1.jpg"))


def test_empty_class_in_test(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 class folders in .*/test hold no images: b"):
        open_source(make(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/a/1.jpg", "test/b/"))


def test_classes_differ(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"differ in their classes: b, c in one only"):
        open_source(make(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/a/1.jpg", "test/c/1.jpg"))


def test_many_differing_classes_are_cut_short(tmp_path: Path) -> None:
    names = [f"train/{n:02}/1.jpg" for n in range(14)]
    with pytest.raises(DataError, match=r": 02, .*, 11 and more in one only"):
        open_source(make(tmp_path, *names, "test/00/1.jpg", "test/01/1.jpg"))


@pytest.mark.parametrize("name", ["test", "val"])
def test_test_without_train(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"has {name}/, but no train/$"):
        open_source(make(tmp_path, f"{name}/a/1.jpg", "training/a/1.jpg"))


def test_folders_beside_train_are_not_passed_over(tmp_path: Path) -> None:
    message = r"has train/, but also extra, which would not be read; allowed beside train/: val/, test/$"
    with pytest.raises(DataError, match=message):
        open_source(make(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/b/1.jpg", "extra/a/1.jpg"))


def test_images_to_train_to_validate_and_to_test(tmp_path: Path) -> None:
    own = ("test/b/5.jpg", "test/a/4.jpg", "test/a/6.jpg", "val/a/3.jpg", "val/b/7.jpg")
    source = open_source(make(tmp_path, "train/a/1.jpg", "train/b/2.jpg", *own))
    assert source.files == [
        *("train/a/1.jpg", "train/b/2.jpg"),
        *("val/a/3.jpg", "val/b/7.jpg"),
        *("test/a/4.jpg", "test/a/6.jpg", "test/b/5.jpg"),
    ]
    assert source.labels.tolist() == [0, 1, 0, 1, 0, 0, 1]
    assert (source.val_images, source.test_images) == (2, 3)


@pytest.mark.parametrize(("flat", "sorted_"), [("test", "val"), ("val", "test")])
def test_of_two_own_parts_both_have_class_folders(tmp_path: Path, flat: str, sorted_: str) -> None:
    (tmp_path / "val_labels.txt").write_text("1.jpg a\n2.jpg b\n")
    train = ("train/a/1.jpg", "train/b/1.jpg")
    message = rf"has both val/ and test/, but .*/{flat} has no class folders; allowed: class folders in both, or one of"
    with pytest.raises(DataError, match=message):
        open_source(
            make(tmp_path, *train, f"{flat}/1.jpg", f"{flat}/2.jpg", f"{sorted_}/a/1.jpg", f"{sorted_}/b/1.jpg")
        )


def test_classes_of_own_validation_images_are_those_of_train(tmp_path: Path) -> None:
    train = ("train/a/1.jpg", "train/b/1.jpg")
    with pytest.raises(DataError, match=r"/train and .*/val differ in their classes: b in one only$"):
        open_source(make(tmp_path, *train, "val/a/1.jpg", "test/a/1.jpg", "test/b/1.jpg"))


def test_images_of_other_formats_are_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"/b has 2 images of a format that is not read, such as 2\.webp; allowed"):
        open_source(make(tmp_path, "a/1.jpg", "b/1.jpg", "b/2.webp", "b/3.TIF"))
