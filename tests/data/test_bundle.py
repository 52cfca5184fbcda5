"""Batches: content, normalisation, augmentation and determinism."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from oba.data import load_bundle, make_splits
from oba.data.augment import Changes, draw_flips, draw_offsets
from oba.data.bundle import ArrayPixels, DataBundle, Split
from oba.data.calibration import calibration_images
from oba.data.prepare import prepare
from oba.data.types import Splits
from oba.datasets import AugmentConfig, DataConfig, SplitsConfig
from oba.errors import ConfigError, FileError

CPU = torch.device("cpu")
AUGMENTS = [
    AugmentConfig(),
    AugmentConfig(flip=True),
    AugmentConfig(crop="pad", padding=2, flip=True),
    AugmentConfig(crop="resized", flip=True),
    AugmentConfig(crop="resized", flip=True, interpolation="random", crop_scale=0.3),
    AugmentConfig(erase=0.5),
    AugmentConfig(crop="pad", flip=True, policy="rand-m9-mstd0.5-inc1", erase=0.25, erase_mode="const"),
    AugmentConfig(policy="trivial", color_jitter=0.4),
]


@pytest.fixture(scope="module")
def splits(digits: Path) -> Splits:
    return make_splits(digits, DataConfig(name="digits"), SplitsConfig(), 0)


@pytest.fixture
def bundle(digits: Path, splits: Splits) -> DataBundle:
    return load_bundle(digits, splits, AugmentConfig(crop="pad", padding=1, flip=True), CPU, calibration=512)


def joined(batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = zip(*batches, strict=True)
    return torch.cat(inputs), torch.cat(targets)


def colour_split(augment: AugmentConfig, device: torch.device = CPU) -> tuple[Split, np.ndarray]:
    """Return a split of 50 images, numbered by their labels, in reverse order."""
    images = np.random.default_rng(0).integers(0, 256, (50, 10, 12, 3), dtype=np.uint8)
    split = Split(
        ArrayPixels(images, device),
        torch.arange(50, device=device),
        list(range(49, -1, -1)),
        mean=[0.5, 0.4, 0.3],
        std=[0.2, 0.3, 0.25],
        augment=augment,
    )
    return split, images


def normalised(images: np.ndarray) -> torch.Tensor:
    """Return (N, H, W, C) in 0..255 as :func:`colour_split` would give them, in float64."""
    values = (images.astype(np.float64) / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.25]
    return torch.from_numpy(values.transpose(0, 3, 1, 2))


def test_bundle_has_the_four_parts(digits: Path, splits: Splits, bundle: DataBundle) -> None:
    labels = np.load(digits / "labels.npy")
    parts = {name: getattr(splits, name) for name in ("train", "val", "test")}
    for name, indices in (parts | {"calibration": calibration_images(splits, 512)}).items():
        split = getattr(bundle, name)
        assert len(split) == len(indices)
        assert joined(split.batches(100))[1].tolist() == labels[indices].tolist()
    assert bundle.info.input_size == (1, 8, 8)
    assert bundle.splits is splits


def test_calibration_images_are_drawn_only_on_request(digits: Path, splits: Splits) -> None:
    assert len(load_bundle(digits, splits, AugmentConfig(), CPU).calibration) == 0
    with pytest.raises(ConfigError, match=r"^calibration\.images: got 2000, but the training split has 1294 images"):
        load_bundle(digits, splits, AugmentConfig(), CPU, calibration=2000)


def test_training_images_are_normalised(bundle: DataBundle) -> None:
    inputs, _ = joined(bundle.train.batches(200))
    assert inputs.double().mean() == pytest.approx(0, abs=1e-6)
    assert inputs.double().std(correction=0) == pytest.approx(1, abs=1e-6)


def test_batches_in_order() -> None:
    split, images = colour_split(AugmentConfig())
    batches = list(split.batches(16))
    assert [len(targets) for _, targets in batches] == [16, 16, 16, 2]
    assert all(inputs.dtype == torch.float32 and inputs.is_contiguous() for inputs, _ in batches)
    assert all(targets.dtype == torch.int64 for _, targets in batches)
    inputs, targets = joined(iter(batches))
    assert targets.tolist() == list(range(49, -1, -1))
    assert torch.allclose(inputs.double(), normalised(images[::-1]), atol=1e-5)


def test_shuffled_batches_hold_every_image_once() -> None:
    split, images = colour_split(AugmentConfig(crop="pad", flip=True))
    inputs, targets = joined(split.batches(16, shuffle_seed=3))
    assert targets.tolist() != list(range(49, -1, -1))
    assert sorted(targets.tolist()) == list(range(50))
    assert torch.allclose(inputs.double(), normalised(images[targets]), atol=1e-5)


def test_pad_and_flip_against_a_plain_reference() -> None:
    config = AugmentConfig(crop="pad", padding=3, flip=True)
    split, images = colour_split(config)
    inputs, targets = joined(split.batches(16, shuffle_seed=11, augment=True))

    generator = torch.Generator().manual_seed(11)
    assert targets.tolist() == (49 - torch.randperm(50, generator=generator)).tolist()
    changes = Changes(config, 11, (0.5, 0.4, 0.3))
    offsets, flips = draw_offsets(targets.numpy(), changes), draw_flips(targets.numpy(), changes)
    for found, label, (top, left), flip in zip(inputs, targets, offsets, flips, strict=True):
        padded = np.pad(images[label].astype(np.float64), ((3, 3), (3, 3), (0, 0)))  # black before normalisation
        image = padded[top : top + 10, left : left + 12]
        expected = normalised((image[:, ::-1] if flip else image)[None])[0]
        assert torch.allclose(found.double(), expected, atol=1e-5)


def test_resized_batches_keep_size_and_range() -> None:
    split, _ = colour_split(AugmentConfig(crop="resized"))
    inputs, targets = joined(split.batches(16, shuffle_seed=1, augment=True))
    assert inputs.shape == (50, 3, 10, 12)
    assert sorted(targets.tolist()) == list(range(50))
    low, high = normalised(np.stack([np.zeros((10, 12, 3)), np.full((10, 12, 3), 255)]))
    assert (inputs.double() > low - 1e-4).all()
    assert (inputs.double() < high + 1e-4).all()


@pytest.mark.parametrize("augment", AUGMENTS, ids=str)
def test_an_epoch_is_a_function_of_its_seed(augment: AugmentConfig) -> None:
    split, _ = colour_split(augment)
    first = joined(split.batches(16, shuffle_seed=5, augment=True))
    other = joined(split.batches(16, shuffle_seed=6, augment=True))
    torch.manual_seed(99)
    state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].tolist()  # pyright: ignore[reportArgumentType, reportIndexIssue]
    python_state = random.getstate()
    again = joined(split.batches(16, shuffle_seed=5, augment=True))
    coarser = joined(split.batches(50, shuffle_seed=5, augment=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert np.random.get_state()[1].tolist() == numpy_state  # pyright: ignore[reportArgumentType, reportIndexIssue]
    assert random.getstate() == python_state
    assert not torch.equal(first[1], other[1])
    for found in (again, coarser):
        assert torch.equal(found[0], first[0])
        assert torch.equal(found[1], first[1])


def test_augmentation_changes_images_only_where_asked_for() -> None:
    split, _ = colour_split(AugmentConfig(crop="pad", flip=True))
    plain, targets = joined(split.batches(16, shuffle_seed=5))
    changed, same_targets = joined(split.batches(16, shuffle_seed=5, augment=True))
    assert torch.equal(targets, same_targets)
    assert not torch.equal(plain, changed)


def test_batches_may_be_changed_in_place() -> None:
    split, _ = colour_split(AugmentConfig())
    before, _ = joined(split.batches(16))
    for inputs, targets in split.batches(16):
        inputs.zero_()
        targets.zero_()
    after, labels = joined(split.batches(16))
    assert torch.equal(before, after)
    assert labels[0] == 49


def test_augmentation_needs_a_seed(bundle: DataBundle) -> None:
    with pytest.raises(ValueError, match="augment needs a shuffle_seed"):
        bundle.train.batches(16, augment=True)


def test_batches_are_not_empty(bundle: DataBundle) -> None:
    with pytest.raises(ValueError, match="batch_size 0 must be at least 1"):
        bundle.train.batches(0)


def test_splits_of_another_data_set(digits: Path, splits: Splits) -> None:
    wrong = dataclasses.replace(splits, parts=splits.parts[1:])
    with pytest.raises(FileError, match=r"^splits: of 1796 images, but .* holds 1797; split again$"):
        load_bundle(digits, wrong, AugmentConfig(), CPU)


def test_splits_of_a_data_set_of_the_same_size(digits: Path, splits: Splits) -> None:
    wrong = dataclasses.replace(splits, data="0" * 16)
    message = rf"^splits: of a data set with digest 0{{16}}, but .* has {splits.data}; split again$"
    with pytest.raises(FileError, match=message):
        load_bundle(digits, wrong, AugmentConfig(), CPU)


def test_splits_keep_the_test_images_of_the_data_set(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = make_folder({"train/a": 5, "train/b": 5, "test/a": 2, "test/b": 2})
    config = DataConfig(name="imagefolder", root=str(root))
    prepare(config, tmp_path / "out")
    splits = make_splits(tmp_path / "out", config, SplitsConfig(val=0.2), 0)
    assert len(load_bundle(tmp_path / "out", splits, AugmentConfig(), CPU).test) == 4
    moved = splits.parts.copy()
    moved[[int(splits.train[0]), int(splits.test[0])]] = moved[[int(splits.test[0]), int(splits.train[0])]]
    with pytest.raises(FileError, match=r"^splits: test is not the 4 test images of .*; split again$"):
        load_bundle(tmp_path / "out", dataclasses.replace(splits, parts=moved), AugmentConfig(), CPU)


def test_splits_keep_the_validation_images_of_the_data_set(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = make_folder({"train/a": 5, "train/b": 5, "val/a": 1, "val/b": 2, "test/a": 2, "test/b": 2})
    config = DataConfig(name="imagefolder", root=str(root))
    prepare(config, tmp_path / "out")
    splits = make_splits(tmp_path / "out", config, SplitsConfig(val=0.2), 0)
    bundle = load_bundle(tmp_path / "out", splits, AugmentConfig(), CPU)
    assert (len(bundle.train), len(bundle.val), len(bundle.test)) == (10, 3, 4)
    moved = splits.parts.copy()
    moved[[int(splits.train[0]), int(splits.val[0])]] = moved[[int(splits.val[0]), int(splits.train[0])]]
    with pytest.raises(FileError, match=r"^splits: val is not the 3 val images of .*; split again$"):
        load_bundle(tmp_path / "out", dataclasses.replace(splits, parts=moved), AugmentConfig(), CPU)


def test_statistics_of_another_data_set(digits: Path, splits: Splits) -> None:
    wrong = dataclasses.replace(splits, mean=[0.5] * 3, std=[0.5] * 3)
    with pytest.raises(FileError, match=r"^splits: 3 channels, but .* has 1; split again$"):
        load_bundle(digits, wrong, AugmentConfig(), CPU)


@pytest.mark.parametrize("augment", AUGMENTS, ids=str)
@pytest.mark.parametrize("ranks", [2, 3])
def test_parts_of_batches_are_together_the_batches(augment: AugmentConfig, ranks: int) -> None:
    split, _ = colour_split(augment)
    whole = list(split.batches(16, shuffle_seed=5, augment=True))
    parts = [list(split.batches(16, shuffle_seed=5, augment=True, part=(rank, ranks))) for rank in range(ranks)]
    for number, (inputs, targets) in enumerate(whole):
        for rank in range(ranks):
            assert torch.equal(parts[rank][number][0], inputs[rank::ranks])
            assert torch.equal(parts[rank][number][1], targets[rank::ranks])
    assert {len(part) for part in parts} == {4}


@pytest.mark.parametrize("augment", AUGMENTS, ids=str)
def test_batches_that_are_skipped_change_no_others(augment: AugmentConfig) -> None:
    split, _ = colour_split(augment)
    whole = list(split.batches(16, shuffle_seed=5, augment=True, part=(1, 2)))
    for skip in range(5):
        rest = list(split.batches(16, shuffle_seed=5, augment=True, part=(1, 2), skip=skip))
        assert len(rest) == 4 - skip
        for found, expected in zip(rest, whole[skip:], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_batches_that_are_skipped_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    split, _ = colour_split(AugmentConfig(flip=True))
    read: list[np.ndarray] = []
    stream = ArrayPixels.stream
    monkeypatch.setattr(
        ArrayPixels, "stream", lambda self, batches, c: (read.extend(batches), stream(self, batches, c))[1]
    )
    list(split.batches(16, shuffle_seed=5, augment=True, skip=2))
    assert sum(map(len, read)) == 18


@pytest.mark.parametrize("augment", AUGMENTS, ids=str)
def test_the_last_part_may_be_empty(augment: AugmentConfig) -> None:
    split, _ = colour_split(augment)
    inputs, targets = list(split.batches(16, shuffle_seed=5, augment=True, part=(2, 3)))[-1]
    assert inputs.shape == (0, 3, 10, 12)
    assert inputs.dtype == torch.float32
    assert targets.shape == (0,)


@pytest.mark.parametrize("part", [(2, 2), (-1, 2), (0, 0)])
def test_parts_are_of_ranks(bundle: DataBundle, part: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"part \(.*\) must be \(r, N\) with 0 <= r < N"):
        bundle.train.batches(16, part=part)


def test_no_images_are_no_batches(digits: Path, splits: Splits) -> None:
    assert list(load_bundle(digits, splits, AugmentConfig(), CPU).calibration.batches(4)) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("augment", AUGMENTS, ids=str)
def test_gpu_sees_the_same_images(augment: AugmentConfig) -> None:
    on_cpu, on_gpu = (colour_split(augment, torch.device(name))[0] for name in ("cpu", "cuda"))
    expected, targets = joined(on_cpu.batches(16, shuffle_seed=4, augment=True))
    found, same_targets = joined(on_gpu.batches(16, shuffle_seed=4, augment=True))
    assert found.is_cuda
    assert torch.equal(same_targets.cpu(), targets)
    if augment.erase > 0 and augment.erase_mode == "pixel":  # the noise is of the device's own generator
        assert torch.isclose(found.cpu(), expected, atol=1e-4).float().mean() > 0.7
    else:
        assert torch.allclose(found.cpu(), expected, atol=1e-4)
