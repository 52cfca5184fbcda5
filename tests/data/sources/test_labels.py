"""Test images in one folder, with a file that names their classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from oba.data.sources.imagefolder import open_source
from oba.data.types import ImageFiles
from oba.datasets import DataConfig
from oba.errors import ConfigError, DataError

Open = Callable[..., ImageFiles]
LABELS = "val_1.JPEG b\nval_3.JPEG a\n\nval_2.JPEG b\n"


@pytest.fixture
def flat(tmp_path: Path) -> Open:
    """Return a function that lists two training and three test images, the latter with a file of their labels."""
    for name in ("train/a/1.JPEG", "train/b/1.JPEG", *(f"val/val_{number}.JPEG" for number in (1, 2, 3))):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def flat(text: str | bytes | None, name: str = "val_labels.txt", labels: str | None = None) -> ImageFiles:
        if text is not None:
            (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return open_source(DataConfig(name="imagefolder", root=str(tmp_path), labels=labels))

    return flat


def check(source: ImageFiles) -> None:
    assert source.files[2:] == ["val/val_3.JPEG", "val/val_1.JPEG", "val/val_2.JPEG"]
    assert source.labels.tolist() == [0, 1, 0, 1, 1]
    assert source.test_images == 3


def test_lines_of_image_and_class(flat: Open) -> None:
    check(flat(LABELS))


@pytest.mark.parametrize("absolute", [False, True])
def test_the_file_may_have_another_name(flat: Open, tmp_path: Path, absolute: bool) -> None:
    check(flat(LABELS, "other.txt", str(tmp_path / "other.txt") if absolute else "other.txt"))


def test_kaggles_solution(flat: Open) -> None:
    text = "ImageId,PredictionString\nval_2,b 85 1 499 272 \nval_1,b 1 2 3 4 b 5 6 7 8 \nval_3,a 0 0 1 1 \n"
    check(flat(text, "LOC_val_solution.csv"))


def test_labels_count_in_the_order_of_files(flat: Open) -> None:
    other = flat(LABELS.replace("val_3.JPEG a", "val_3.JPEG b").replace("val_1.JPEG b", "val_1.JPEG a"))
    assert other.files[2:] == ["val/val_1.JPEG", "val/val_2.JPEG", "val/val_3.JPEG"]


def test_a_file_must_be_there(flat: Open) -> None:
    message = (
        r"^data\.labels: not given, but images lie directly in .*/val, and neither of val_labels\.txt and "
        r"LOC_val_solution\.csv is in .*; allowed: lines '<image> <class>', such as"
    )
    with pytest.raises(ConfigError, match=message):
        flat(None)


def test_a_file_that_is_named_must_be_there(flat: Open) -> None:
    with pytest.raises(DataError, match=r"^data\.labels: .*/nowhere\.txt: no such file$"):
        flat(None, labels="nowhere.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "490\n361\n",
            r" holds bare numbers, as the devkit's ground truth, whose classes only its meta\.mat names; allo",
        ),
        ("val_1.JPEG\n", r", line 1: 'val_1\.JPEG'; allowed: lines '<image> <class>'"),
        ("val_1.JPEG a\nval_2.JPEG a b\n", r", line 2: 'val_2\.JPEG a b'; allowed"),
        ("val_1.JPEG a\nval_1.JPEG b\n", r", line 2: val_1\.JPEG has a label already$"),
        (
            "val_1.JPEG 65\n",
            r" names 1 classes that train/ does not have, such as 65; allowed: the 2 names of its fold",
        ),
        (LABELS.replace("val_3.JPEG a\n", ""), r" 1 of 3 images in .*/val have no label in .*: val_3\.JPEG$"),
        (LABELS + "val_4.JPEG a\n", r" 1 images that .* labels are not in .*/val: val_4\.JPEG$"),
        (LABELS + "".join(f"x{n} a\n" for n in range(12)), r" 12 images that .*: x0, .*, x9 and 2 more$"),
        ("", r" 3 of 3 images in "),
        (b"\xff\xfe", r" cannot be read \(.*\); allowed"),
    ],
)
def test_mistakes(flat: Open, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=r"^data\.labels:.*" + message) as caught:
        flat(text)
    assert "\n" not in str(caught.value)


def test_images_beside_class_folders(flat: Open, tmp_path: Path) -> None:
    (tmp_path / "val/a").mkdir()
    with pytest.raises(
        DataError, match=r"/val has 3 images such as val_1\.JPEG beside class folders such as a; allowed"
    ):
        flat(LABELS)


def test_labels_without_images_to_label(flat: Open, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"val/val_{number}.JPEG").unlink()
    with pytest.raises(
        DataError, match=r"^data\.labels: val_labels\.txt is given, but no images lie directly in .*/val"
    ):
        flat(LABELS, labels="val_labels.txt")
