"""Preparing digits and image folders."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oba.data.fingerprint import fingerprint
from oba.data.prepare import prepare
from oba.data.store import digest_of, open_prepared
from oba.data.types import PREPARED_FILES, DataInfo
from oba.datasets import DataConfig
from oba.errors import ConfigError, DataError

MakeFolder = Callable[..., Path]
Picture = Callable[[int, int, int, str], Image.Image]


def folder(root: Path, image_size: int | None = None) -> DataConfig:
    return DataConfig(name="imagefolder", root=str(root), image_size=image_size)


def images(directory: Path) -> np.ndarray:
    return np.load(directory / "images.npy")


def names(directory: Path) -> list[str]:
    files = open_prepared(directory).files
    assert files is not None
    return [files.names[index] for index in range(len(files))]


def test_digits(digits: Path) -> None:
    info = DataInfo.from_json(json.loads((digits / "data.json").read_text()))
    assert info.input_size == (1, 8, 8)
    assert info.classes == [str(n) for n in range(10)]
    assert (info.train_images, info.test_images, info.storage) == (1797, 0, "arrays")
    stored = images(digits)
    assert stored.shape == (1797, 8, 8, 1)
    assert stored.min() == 0
    assert stored.max() == 255
    assert len(np.unique(stored)) == 17
    assert np.bincount(np.load(digits / "labels.npy")).sum() == 1797


def test_digits_come_in_other_sizes(tmp_path: Path) -> None:
    assert prepare(DataConfig(name="digits", image_size=16), tmp_path).input_size == (1, 16, 16)
    assert images(tmp_path).shape == (1797, 16, 16, 1)


def test_arrays_are_not_blown_up_to_large_images(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^data\.image_size: got 65, but digits holds .* allowed: 4 to 64, or none$"):
        prepare(DataConfig(name="digits", image_size=65), tmp_path)


def test_preparing_and_splitting_imports_no_torch(tmp_path: Path, make_folder: MakeFolder) -> None:
    root = make_folder({"a": 4, "b": 4})
    code = f"""
import sys
from pathlib import Path
import oba.data.prepare
from oba.datasets import DataConfig, SplitsConfig
from oba.data import make_splits
splits = SplitsConfig(val=0.34, test=0.26)
for config in (DataConfig(name="digits"), DataConfig(name="imagefolder", root={str(root)!r})):
    directory = Path({str(tmp_path)!r}) / config.name
    oba.data.prepare.prepare(config, directory)
    make_splits(directory, config, splits, 0)
print(sorted({{"torch", "torchvision", "mlflow"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("suffix", [".png", ".PNG"])
def test_small_images_are_stored_decoded(tmp_path: Path, make_folder: MakeFolder, mode: str, suffix: str) -> None:
    root = make_folder({"train/b": 3, "train/a": 2, "test/a": 1, "test/b": 1}, size=(12, 20), mode=mode, suffix=suffix)
    info = prepare(folder(root), tmp_path / "out")
    channels = 1 if mode == "L" else 3
    assert info.input_size == (channels, 12, 20)
    assert info.classes == ["a", "b"]
    assert (info.train_images, info.test_images, info.storage) == (5, 2, "arrays")
    assert (info.train_sizes, info.test_sizes) == ([2, 3], [1, 1])
    assert np.load(tmp_path / "out/labels.npy").tolist() == [0, 0, 1, 1, 1, 0, 1]
    first_of_a = np.asarray(Image.open(root / f"train/a/000{suffix}")).reshape(12, 20, channels)
    assert np.array_equal(images(tmp_path / "out")[0], first_of_a)


def test_grey_images_among_coloured_ones_are_read_as_colour(
    tmp_path: Path, make_folder: MakeFolder, picture: Picture
) -> None:
    root = make_folder({"a": 3, "b": 3}, mode="L")
    picture(9, 12, 12, "RGB").save(root / "b/001.png")
    info = prepare(folder(root), tmp_path / "out")
    stored = images(tmp_path / "out")
    assert info.input_size == (3, 12, 12)
    assert np.array_equal(stored[4], np.asarray(Image.open(root / "b/001.png")))
    grey = np.asarray(Image.open(root / "a/000.png"))
    assert np.array_equal(stored[0], np.stack([grey] * 3, axis=-1))


def test_images_are_resized_and_cropped(tmp_path: Path, make_folder: MakeFolder, picture: Picture) -> None:
    root = make_folder({"a": 2, "b": 2}, size=(30, 40))
    picture(7, 90, 50, "RGB").save(root / "a/000.png")
    assert prepare(folder(root, 16), tmp_path / "out").input_size == (3, 16, 16)
    assert images(tmp_path / "out").shape == (4, 16, 16, 3)


@pytest.mark.parametrize(("edge", "storage"), [(64, "arrays"), (65, "files")])
def test_large_images_stay_files(tmp_path: Path, make_folder: MakeFolder, edge: int, storage: str) -> None:
    root = make_folder({"a": 2, "b": 2}, size=(edge, 40), suffix=".jpg")
    info = prepare(folder(root), tmp_path / "out")
    assert info.storage == storage
    assert info.input_size == (3, edge, 40)
    assert len(images(tmp_path / "out")) == (4 if storage == "arrays" else 0)
    assert names(tmp_path / "out") == ["a/000.jpg", "a/001.jpg", "b/000.jpg", "b/001.jpg"]
    assert (info.train_sizes, info.test_sizes) == ([2, 2], [0, 0])


def test_files_are_listed_with_sizes(tmp_path: Path, make_folder: MakeFolder) -> None:
    root = make_folder({"a": 2, "b": 1}, size=(80, 80), mode="L", suffix=".jpeg")
    info = prepare(folder(root, 70), tmp_path / "out")
    assert info.input_size == (1, 70, 70)
    files = open_prepared(tmp_path / "out").files
    assert files is not None
    assert names(tmp_path / "out") == ["a/000.jpeg", "a/001.jpeg", "b/000.jpeg"]
    assert files.root == root.resolve()
    assert files.digests[2].tobytes().hex() == hashlib.sha256((root / "b/000.jpeg").read_bytes()).hexdigest()[:16]
    assert files.digest() == info.files_digest
    assert files.sizes[2] == (root / "b/000.jpeg").stat().st_size


def test_every_image_is_read_once(tmp_path: Path, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    root, read = make_folder({"a": 5, "b": 5}, size=(80, 80)), []

    def noted(content: bytes) -> bytes:
        read.append(content)
        return digest_of(content)

    monkeypatch.setattr("oba.data.look.digest_of", noted)
    seen = fingerprint(folder(root), tmp_path / "cache")
    prepare(folder(root), tmp_path / "out", cache=tmp_path / "cache", seen=seen)
    first, *others = read  # one image is looked at before, to tell what all are like
    assert sorted(others) == sorted(path.read_bytes() for path in root.rglob("*.png"))
    assert first == others[0]


@pytest.mark.parametrize("storage", ["arrays", "files", "no files"])
def test_a_prepared_folder_always_holds_the_same_files(tmp_path: Path, make_folder: MakeFolder, storage: str) -> None:
    root = make_folder({"a": 2, "b": 2}, size=(80, 80))
    digits = DataConfig(name="digits")
    config = {"arrays": folder(root, 32), "files": folder(root, 72), "no files": digits}[storage]
    out = tmp_path / "out"
    for earlier in (folder(root, 72), folder(root, 32), digits):
        prepare(earlier, out)
        prepare(config, out)
        assert {path.name for path in out.iterdir()} == set(PREPARED_FILES)
        prepared = open_prepared(out)
        assert (prepared.images is None) == (storage == "files")
        assert (prepared.files is None) == (storage == "no files")


def test_small_images_are_resized_as_asked_for(tmp_path: Path, make_folder: MakeFolder) -> None:
    root = make_folder({"a": 2, "b": 2}, size=(30, 30))
    prepare(DataConfig(name="imagefolder", root=str(root), image_size=16, interpolation="bicubic"), tmp_path / "out")
    expected = Image.open(root / "a/000.png").resize((16, 16), Image.Resampling.BICUBIC)
    assert np.array_equal(images(tmp_path / "out")[0], np.asarray(expected))


@pytest.mark.parametrize("size", [12, 80])
def test_digest_is_of_the_content(tmp_path: Path, make_folder: MakeFolder, picture: Picture, size: int) -> None:
    counts = {"a": 2, "b": 2}
    root = make_folder(counts, size=(size, size))
    copy = make_folder(counts, size=(size, size), name="elsewhere")
    digest = prepare(folder(root), tmp_path / "1").digest
    assert prepare(folder(root), tmp_path / "1").digest == digest
    assert prepare(folder(copy), tmp_path / "2").digest == digest

    picture(99, size, size, "RGB").save(copy / "b/001.png")
    changed_image = prepare(folder(copy), tmp_path / "2").digest
    (root / "b").rename(root / "c")
    changed_class = prepare(folder(root), tmp_path / "1").digest
    (root / "a/001.png").rename(root / "c/002.png")
    changed_label = prepare(folder(root), tmp_path / "1").digest
    assert len({digest, changed_image, changed_class, changed_label}) == 4


def test_own_test_set_counts_in_the_digest(tmp_path: Path, make_folder: MakeFolder) -> None:
    apart = make_folder({"train/a": 1, "train/b": 1, "test/a": 1, "test/b": 1}, name="apart")
    (tmp_path / "whole/train").mkdir(parents=True)
    for label in "ab":
        target = tmp_path / "whole/train" / label
        target.mkdir()
        (target / "0.png").write_bytes((apart / f"train/{label}/000.png").read_bytes())
    assert prepare(folder(apart), tmp_path / "1").digest != prepare(folder(tmp_path / "whole"), tmp_path / "2").digest


def damage(root: Path) -> None:
    whole = (root / "a/000.png").read_bytes()
    (root / "a/001.png").write_bytes(whole[: len(whole) // 2])
    (root / "b/000.png").write_bytes(b"no image")


@pytest.mark.parametrize("size", [12, 80])
def test_unreadable_files_are_all_named(tmp_path: Path, make_folder: MakeFolder, size: int) -> None:
    root = make_folder({"a": 3, "b": 2}, size=(size, size))
    damage(root)
    with pytest.raises(DataError) as caught:
        prepare(folder(root), tmp_path / "out")
    message = str(caught.value)
    assert message.startswith(f"data.root: 2 of 5 images in {root} cannot be read: a/001.png (")
    assert "b/000.png (not an image)" in message
    assert "\n" not in message
    assert not list((tmp_path / "out").iterdir())


def test_many_unreadable_files_are_counted(tmp_path: Path, make_folder: MakeFolder) -> None:
    root = make_folder({"a": 3, "b": 20})
    for path in (root / "b").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"20 of 23 images .*b/000\.png \(empty file\), .* and 10 more; replace"):
        prepare(folder(root), tmp_path / "out")


def test_no_readable_file(tmp_path: Path, make_folder: MakeFolder) -> None:
    root = make_folder({"a": 1, "b": 1})
    (root / "a/000.png").write_bytes(b"")
    (root / "b/000.png").unlink()
    (root / "b/000.png").symlink_to("nowhere.png")
    with pytest.raises(DataError, match=r"2 of 2 images .*a/000\.png \(empty file\), b/000\.png \(No such file"):
        prepare(folder(root), tmp_path / "out")


def test_differing_sizes_need_an_image_size(tmp_path: Path, make_folder: MakeFolder, picture: Picture) -> None:
    root = make_folder({"a": 2, "b": 2})
    picture(5, 10, 12, "RGB").save(root / "b/001.png")
    with pytest.raises(DataError, match=r"^data\.image_size: .* a/000\.png is 12x12, 1 are not: b/001\.png \(12x10\);"):
        prepare(folder(root), tmp_path / "out")
    assert prepare(folder(root, 12), tmp_path / "out").input_size == (3, 12, 12)
