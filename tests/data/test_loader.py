"""Images that stay files: the same batches whatever reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

from oba.data import load_bundle, make_splits
from oba.data.augment import Changes, crop_boxes, draw_boxes
from oba.data.bundle import DataBundle, Split
from oba.data.loader import FilePixels
from oba.data.prepare import prepare
from oba.data.store import open_prepared
from oba.datasets import AugmentConfig, DataConfig, SplitsConfig
from oba.errors import DataError

CPU = torch.device("cpu")
MakeBundle = Callable[[AugmentConfig], DataBundle]


@pytest.fixture
def make_bundle(tmp_path: Path, make_folder: Callable[..., Path]) -> MakeBundle:
    """Return a function that loads 20 images of 90x100 pixels as 80x80."""
    root = make_folder({"train/a": 8, "train/b": 8, "test/a": 2, "test/b": 2}, size=(90, 100))
    config = DataConfig(name="imagefolder", root=str(root), image_size=80)
    prepare(config, tmp_path / "out")
    splits = make_splits(tmp_path / "out", config, SplitsConfig(val=0.25), 0)
    return lambda augment: load_bundle(tmp_path / "out", splits, augment, CPU, calibration=6)


def joined(split: Split, batch_size: int, **options: int | bool) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = zip(*split.batches(batch_size, **options), strict=True)  # pyright: ignore[reportArgumentType]
    return torch.cat(inputs), torch.cat(targets)


def normalised(image: np.ndarray, bundle: DataBundle) -> torch.Tensor:
    values = (image.astype(np.float64) / 255 - bundle.splits.mean) / bundle.splits.std
    return torch.from_numpy(values.transpose(2, 0, 1))


def paths(tmp_path: Path) -> list[Path]:
    root = tmp_path / "images"
    return [root / name for name in _files(tmp_path)]


def _files(tmp_path: Path) -> list[str]:
    files = open_prepared(tmp_path / "out").files
    assert files is not None
    return [files.names[index] for index in range(len(files))]


def test_test_images_are_resized_and_cropped(tmp_path: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(AugmentConfig())
    inputs, targets = joined(bundle.test, 3)
    assert targets.tolist() == [0, 0, 1, 1]
    for path, found in zip(paths(tmp_path)[16:], inputs, strict=True):
        expected = functional.center_crop(functional.resize(Image.open(path), [80]), [80, 80])
        assert torch.allclose(found.double(), normalised(np.asarray(expected), bundle), atol=1e-5)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resized_crops_are_torchvisions(tmp_path: Path, make_bundle: MakeBundle, interpolation: str) -> None:
    config = AugmentConfig.model_validate({"crop": "resized", "interpolation": interpolation, "crop_scale": 0.2})
    bundle = make_bundle(config)
    inputs, _ = joined(bundle.train, 5, shuffle_seed=2, augment=True)
    order = bundle.splits.train[torch.randperm(12, generator=torch.Generator().manual_seed(2)).numpy()]
    draws = draw_boxes(order, Changes(config, 2, ()))
    files, mode = paths(tmp_path), functional.InterpolationMode(interpolation)
    for index, box, found in zip(order, crop_boxes(draws, 90, 100, 0.2).tolist(), inputs, strict=True):
        expected = functional.resized_crop(Image.open(files[index]), *box, [80, 80], mode)
        assert torch.allclose(found.double(), normalised(np.asarray(expected), bundle), atol=1e-5)


def test_a_fraction_of_the_edge_is_cut_out(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    root = make_folder({"train/a": 4, "train/b": 4, "val/a": 2, "val/b": 2}, size=(120, 150))
    values = {"name": "imagefolder", "root": str(root), "image_size": 70, "crop_fraction": 0.875}
    config = DataConfig.model_validate({**values, "interpolation": "bicubic"})
    info = prepare(config, tmp_path / "out")
    other = prepare(DataConfig.model_validate(values), tmp_path / "other")
    assert info.digest != other.digest, "nets see other pixels"
    splits = make_splits(tmp_path / "out", config, SplitsConfig(val=0.25), 0)
    bundle = load_bundle(tmp_path / "out", splits, AugmentConfig(), CPU)
    inputs, _ = joined(bundle.test, 4)
    for path, found in zip(paths(tmp_path)[8:], inputs, strict=True):
        resized = functional.resize(Image.open(path), [80], functional.InterpolationMode.BICUBIC)
        expected = functional.center_crop(resized, [70, 70])
        assert torch.allclose(found.double(), normalised(np.asarray(expected), bundle), atol=1e-5)


EVERYTHING = {"crop": "resized", "flip": True, "color_jitter": 0.3, "erase": 0.5, "interpolation": "random"}


@pytest.mark.parametrize(
    "augment",
    [
        {"crop": "none", "flip": True},
        {"crop": "pad", "flip": True},
        {"crop": "resized", "flip": True},
        {**EVERYTHING, "policy": "rand-m9-n3-mstd0.5-inc1"},
        {**EVERYTHING, "policy": "original-mstd0.5", "crop": "pad"},
        {**EVERYTHING, "policy": "trivial", "crop": "none"},
    ],
    ids=str,
)
def test_batches_depend_on_the_seed_alone(
    make_bundle: MakeBundle, augment: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = AugmentConfig.model_validate(augment)
    split = make_bundle(config).train
    state = torch.get_rng_state()
    monkeypatch.setenv("OBA_WORKERS", "3")
    first = joined(split, 5, shuffle_seed=2, augment=True)
    other = joined(split, 5, shuffle_seed=3, augment=True)
    again = joined(split, 5, shuffle_seed=2, augment=True)
    monkeypatch.setenv("OBA_WORKERS", "1")
    one_worker = joined(make_bundle(config).train, 12, shuffle_seed=2, augment=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first[0], other[0])
    for found in (again, one_worker):
        assert torch.equal(found[0], first[0])
        assert torch.equal(found[1], first[1])
    halves = [list(split.batches(5, shuffle_seed=2, augment=True, part=(rank, 2))) for rank in range(2)]
    for number, (inputs, _) in enumerate(split.batches(5, shuffle_seed=2, augment=True)):
        for rank in range(2):
            assert torch.equal(halves[rank][number][0], inputs[rank::2])


def test_calibration_is_not_augmented(make_bundle: MakeBundle) -> None:
    plain, augmented = (make_bundle(AugmentConfig(crop=crop)).calibration for crop in ("none", "resized"))
    assert torch.equal(joined(plain, 6)[0], joined(augmented, 6)[0])


@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_image_that_has_gone_is_one_line(tmp_path: Path, make_bundle: MakeBundle, batch_size: int) -> None:
    split = make_bundle(AugmentConfig()).test
    (tmp_path / "images/test/b/001.png").unlink()
    with pytest.raises(DataError) as caught:
        joined(split, batch_size)
    assert str(caught.value).startswith(f"{tmp_path}/images/test/b/001.png: No such file or directory;")
    assert "\n" not in str(caught.value)


def test_arrays_are_not_read_as_files(digits: Path) -> None:
    with pytest.raises(ValueError, match="stored as arrays"):
        FilePixels(open_prepared(digits), CPU)
