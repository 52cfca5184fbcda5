"""Splits: disjoint, stratified, of the right size, by seed; and the channels' statistics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from oba.data.calibration import calibration_images
from oba.data.describe import describe, train_images
from oba.data.prepare import prepare
from oba.data.splits import _rounded, make_splits
from oba.data.types import Splits
from oba.datasets import DataConfig, SplitsConfig
from oba.errors import ConfigError, DataError
from oba.files import digest_json

DIGITS = DataConfig(name="digits")
MakeFolder = Callable[..., Path]


def prepared_folder(make_folder: MakeFolder, tmp_path: Path, counts: dict[str, int], **options: object) -> Path:
    root = make_folder(counts, **options)
    prepare(DataConfig(name="imagefolder", root=str(root)), tmp_path / "out")
    return tmp_path / "out"


def split(directory: Path, seed: int = 0, *, data: dict[str, object] | None = None, **values: object) -> Splits:
    config = DataConfig.model_validate({"name": "imagefolder", **(data or {})})
    return make_splits(directory, config, SplitsConfig.model_validate(values), seed)


def test_parts_are_disjoint_and_complete(digits: Path) -> None:
    splits = make_splits(digits, DIGITS, SplitsConfig(), 0)
    assert sorted([*splits.train, *splits.val, *splits.test]) == list(range(1797))
    assert len(splits.test) == round(0.2 * 1797)
    assert len(splits.val) == round(0.1 * (1797 - len(splits.test)))


def test_test_and_val_are_stratified(digits: Path) -> None:
    splits = make_splits(digits, DIGITS, SplitsConfig(), 0)
    labels = np.load(digits / "labels.npy")
    counts = np.bincount(labels)
    test = np.bincount(labels[splits.test])
    assert np.abs(test - 0.2 * counts).max() < 1
    assert np.abs(np.bincount(labels[splits.val]) - 0.1 * (counts - test)).max() < 1


def test_calibration_images_are_training_images(digits: Path) -> None:
    splits = make_splits(digits, DIGITS, SplitsConfig(), 0)
    drawn = calibration_images(splits, 512)
    assert len(set(drawn)) == 512
    assert set(drawn) <= set(splits.train.tolist())


def test_calibration_images_are_those_of_earlier_releases(digits: Path) -> None:
    """They were once stored with the splits; results scored on them stand only if the same ones are drawn."""
    drawn = calibration_images(make_splits(digits, DIGITS, SplitsConfig(), 3), 512)
    assert drawn[:8] == [657, 375, 171, 215, 1456, 232, 935, 1649]
    assert digest_json(drawn) == "fd205d06cfc02fcd"


def test_calibration_images_depend_on_seed_train_and_number_alone(digits: Path) -> None:
    splits = make_splits(digits, DIGITS, SplitsConfig(), 0)
    drawn = calibration_images(splits, 100)
    assert calibration_images(splits, 40) == drawn[:40]
    parts = np.where(splits.parts == 2, 1, splits.parts)  # the test images are validated on
    other = dataclasses.replace(splits, parts=parts, mean=[0.0], std=[1.0])
    assert calibration_images(other, 100) == drawn
    assert calibration_images(dataclasses.replace(splits, seed=1), 100) != drawn


def test_calibration_mixes_the_classes_in_any_run(digits: Path) -> None:
    labels = np.load(digits / "labels.npy")
    drawn = calibration_images(make_splits(digits, DIGITS, SplitsConfig(), 0), 512)
    assert drawn != sorted(drawn)
    assert all(len(set(labels[drawn[i : i + 64]])) > 7 for i in range(0, 512, 64))


def test_splits_are_a_function_of_the_seed(digits: Path) -> None:
    first = make_splits(digits, DIGITS, SplitsConfig(), 0)
    np.random.seed(5)
    again = make_splits(digits, DIGITS, SplitsConfig(), 0)
    assert np.array_equal(again.parts, first.parts)
    assert (again.seed, again.mean, again.std) == (first.seed, first.mean, first.std)
    other = make_splits(digits, DIGITS, SplitsConfig(), 1)
    assert other.test.tolist() != first.test.tolist()
    assert other.val.tolist() != first.val.tolist()


def test_splits_are_those_of_earlier_releases(digits: Path) -> None:
    splits = make_splits(digits, DIGITS, SplitsConfig(), 0)
    assert digest_json([splits.train.tolist(), splits.val.tolist(), splits.test.tolist()]) == "dbb7f20f0ab2c966"


def test_test_does_not_depend_on_the_other_settings(digits: Path) -> None:
    first = make_splits(digits, DIGITS, SplitsConfig(), 0)
    other = make_splits(digits, DIGITS, SplitsConfig(val=0.3), 0)
    assert other.test.tolist() == first.test.tolist()


def test_own_test_set_is_the_test_set(tmp_path: Path, make_folder: MakeFolder) -> None:
    counts = {"train/a": 6, "train/b": 4, "test/a": 1, "test/b": 2}
    splits = split(prepared_folder(make_folder, tmp_path, counts), val=0.5)
    assert splits.test.tolist() == [10, 11, 12]
    assert len(splits.val) == 5
    assert sorted([*splits.train, *splits.val]) == list(range(10))


@settings(deadline=None)
@given(st.lists(st.integers(0, 500), min_size=1, max_size=30), st.floats(0.01, 0.99))
def test_shares_are_fair(counts: list[int], fraction: float) -> None:
    array = np.array(counts)
    shares = _rounded(array, fraction)
    assert shares.sum() == round(float((array * fraction).sum()))
    assert (np.abs(shares - array * fraction) < 1 + 1e-9).all()
    assert ((shares >= 0) & (shares <= array)).all()


@settings(deadline=None)
@given(st.integers(2, 400), st.lists(st.integers(0, 3000), max_size=10))
def test_allowed_range_in_messages_is_allowed(smallest: int, more: list[int]) -> None:
    counts = np.array([smallest, *(smallest + extra for extra in more)])
    low, high = -(-1000 // smallest) / 1000, (1000 * (smallest - 1) // smallest) / 1000
    for fraction in (low, high):
        shares = _rounded(counts, fraction)
        assert shares.min() >= 1
        assert (counts - shares).min() >= 1


def test_calibration_larger_than_train(tmp_path: Path, make_folder: MakeFolder) -> None:
    splits = split(prepared_folder(make_folder, tmp_path, {"a": 10, "b": 10}), val=0.5, test=0.2)
    message = r"^calibration\.images: got 9, but the training split has 8 images; allowed: 1 to 8$"
    with pytest.raises(ConfigError, match=message):
        calibration_images(splits, 9)
    assert sorted(calibration_images(splits, 8)) == splits.train.tolist()


@pytest.mark.parametrize(
    "counts",
    [{"a": 17, "b": 22, "c": 19}, {"train/a": 17, "train/b": 22, "test/a": 3, "test/b": 1}],
    ids=["drawn", "own"],
)
@pytest.mark.parametrize("fractions", [{}, {"val": 0.37, "test": 0.41}], ids=["default", "other"])
def test_number_of_training_images_is_known_before(
    tmp_path: Path, make_folder: MakeFolder, counts: dict[str, int], fractions: dict[str, float]
) -> None:
    splits = split(prepared_folder(make_folder, tmp_path, counts), **fractions)
    described = describe(DataConfig(name="imagefolder", root=str(tmp_path / "images")))
    assert train_images(described, SplitsConfig(**fractions)) == len(splits.train)


@pytest.mark.parametrize(
    ("key", "value", "side"),
    [
        ("test", 0.01, "test"),
        ("test", 0.99, "training"),
        ("val", 0.01, "validation"),
        ("val", 0.99, "training"),
    ],
)
def test_class_missing_on_one_side(tmp_path: Path, make_folder: MakeFolder, key: str, value: float, side: str) -> None:
    directory = prepared_folder(make_folder, tmp_path, {"a": 10, "b": 20})
    message = (
        rf"^splits\.{key}: got {value}, which leaves class '.' \(\d+ images\) without a {side} image; "
        r"allowed: 0\.\d+ to 0\.\d+$"
    )
    fractions = {"val": 0.3, "test": 0.3, key: value}
    with pytest.raises(ConfigError, match=message) as late:
        split(directory, **fractions)
    with pytest.raises(ConfigError) as early:
        train_images(describe(DataConfig(name="imagefolder", root=str(tmp_path / "images"))), SplitsConfig(**fractions))
    assert str(early.value) == str(late.value)


@pytest.mark.parametrize(("count", "key"), [(1, "test"), (2, "val")])
def test_class_too_small_to_divide(tmp_path: Path, make_folder: MakeFolder, count: int, key: str) -> None:
    directory = prepared_folder(make_folder, tmp_path, {"a": count, "b": 10})
    message = rf"^splits\.{key}: class 'a' has 1 images left to take .* at least 2"
    with pytest.raises(DataError, match=message):
        split(directory, val=0.5, test=0.5)
    with pytest.raises(DataError, match=message):
        train_images(
            describe(DataConfig(name="imagefolder", root=str(tmp_path / "images"))), SplitsConfig(val=0.5, test=0.5)
        )


def test_statistics_are_of_the_training_images(digits: Path) -> None:
    splits = make_splits(digits, DIGITS, SplitsConfig(), 0)
    pixels = np.load(digits / "images.npy")[splits.train] / 255
    assert splits.mean == pytest.approx([pixels.mean()], rel=1e-12)
    assert splits.std == pytest.approx([pixels.std()], rel=1e-12)


def test_statistics_are_per_channel(tmp_path: Path, make_folder: MakeFolder) -> None:
    directory = prepared_folder(make_folder, tmp_path, {"a": 10, "b": 10})
    splits = split(directory)
    pixels = np.load(directory / "images.npy")[splits.train] / 255
    assert splits.mean == pytest.approx(pixels.mean((0, 1, 2)), rel=1e-12)
    assert splits.std == pytest.approx(pixels.std((0, 1, 2)), rel=1e-12)


def test_constant_channel_has_a_positive_deviation(tmp_path: Path, make_folder: MakeFolder) -> None:
    root = make_folder({"a": 4, "b": 4})
    for path in root.rglob("*.png"):
        pixels = np.array(Image.open(path))
        pixels[..., 1] = 77
        Image.fromarray(pixels).save(path)
    prepare(DataConfig(name="imagefolder", root=str(root)), tmp_path / "out")
    splits = split(tmp_path / "out", val=0.3, test=0.3)
    assert splits.mean[1] == pytest.approx(77 / 255)
    assert splits.std[1] == 1 / 255


def test_statistics_of_files(tmp_path: Path, make_folder: MakeFolder) -> None:
    directory = prepared_folder(make_folder, tmp_path, {"a": 4, "b": 4}, size=(80, 70))
    splits = split(directory, val=0.3, test=0.3)
    files = sorted((tmp_path / "images").rglob("*.png"))
    pixels = np.stack([np.asarray(Image.open(files[index])) for index in splits.train]) / 255
    assert splits.mean == pytest.approx(pixels.mean((0, 1, 2)), rel=1e-12)
    assert splits.std == pytest.approx(pixels.std((0, 1, 2)), rel=1e-12)


def test_statistics_of_many_files_are_estimated(
    tmp_path: Path, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = prepared_folder(make_folder, tmp_path, {"a": 6, "b": 6}, size=(80, 70))
    exact = split(directory, val=0.3, test=0.3)
    monkeypatch.setattr("oba.data.splits.STATISTICS_IMAGES", 3)
    estimated = split(directory, val=0.3, test=0.3)
    assert estimated.mean != exact.mean
    assert estimated.mean == pytest.approx(exact.mean, abs=0.02)
    assert estimated.mean == split(directory, val=0.3, test=0.3).mean


def test_imagenet_statistics(tmp_path: Path, make_folder: MakeFolder) -> None:
    directory = prepared_folder(make_folder, tmp_path, {"a": 10, "b": 10})
    splits = split(directory, data={"normalization": "imagenet"})
    assert splits.mean == [0.485, 0.456, 0.406]
    assert splits.std == [0.229, 0.224, 0.225]


def test_imagenet_statistics_need_colour(digits: Path) -> None:
    message = r"^data\.normalization: imagenet has 3 channels, but digits has 1; allowed: dataset, or given"
    with pytest.raises(ConfigError, match=message):
        split(digits, data={"normalization": "imagenet"})


def test_given_statistics(digits: Path) -> None:
    splits = split(digits, data={"normalization": "given", "mean": [0.5], "std": [0.25]})
    assert (splits.mean, splits.std) == ([0.5], [0.25])
    with pytest.raises(
        ConfigError, match=r"normalization: given has 3 channels, but digits has 1; allowed: dataset, or"
    ):
        split(digits, data={"normalization": "given", "mean": [0.5] * 3, "std": [0.5] * 3})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"normalization": "given"},
            "normalization is 'given', without mean and without std; allowed: normalization: ",
        ),
        ({"normalization": "given", "mean": [0.5]}, "normalization is 'given', with mean and without std; allowed: "),
        (
            {"std": [0.5]},
            "normalization is 'dataset', without mean and with std; allowed: normalization: given with both",
        ),
        (
            {"normalization": "given", "mean": [0.5], "std": [0.5, 0.5]},
            "mean has 1 channels and std 2; allowed: as many",
        ),
    ],
)
def test_statistics_are_given_together(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataConfig.model_validate({"name": "digits", **values})
