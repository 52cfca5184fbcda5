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
from oba.data.augment import crop_boxes, draw
from oba.data.bundle import DataBundle, Split
from oba.data.loader import FilePixels
from oba.data.prepare import prepare
from oba.data.store import open_prepared
from oba.errors import DataError
from oba.recipes import AugmentConfig, DataConfig, SplitsConfig

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
    return files.files


def test_test_images_are_resized_and_cropped(tmp_path: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(AugmentConfig())
    inputs, targets = joined(bundle.test, 3)
    assert targets.tolist() == [0, 0, 1, 1]
    for path, found in zip(paths(tmp_path)[16:], inputs, strict=True):
        expected = functional.center_crop(functional.resize(Image.open(path), [80]), [80, 80])
        assert torch.allclose(found.double(), normalised(np.asarray(expected), bundle), atol=1e-5)


def test_resized_crops_are_torchvisions(tmp_path: Path, make_bundle: MakeBundle) -> None:
    config = AugmentConfig(crop="resized")
    bundle = make_bundle(config)
    inputs, _ = joined(bundle.train, 5, shuffle_seed=2, augment=True)
    generator = torch.Generator().manual_seed(2)
    order = torch.tensor(bundle.splits.train)[torch.randperm(12, generator=generator)]
    draws = draw(12, config, generator).boxes
    assert draws is not None
    files = paths(tmp_path)
    for index, box, found in zip(order, crop_boxes(draws, 90, 100).tolist(), inputs, strict=True):
        expected = functional.resized_crop(Image.open(files[index]), *box, [80, 80])
        assert torch.allclose(found.double(), normalised(np.asarray(expected), bundle), atol=1e-5)


@pytest.mark.parametrize("crop", ["none", "pad", "resized"])
def test_batches_depend_on_the_seed_alone(make_bundle: MakeBundle, crop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    split = make_bundle(AugmentConfig.model_validate({"crop": crop, "flip": True})).train
    first = joined(split, 5, shuffle_seed=2, augment=True)
    other = joined(split, 5, shuffle_seed=3, augment=True)
    state = torch.get_rng_state()
    monkeypatch.setattr("oba.data.loader.usable_cpus", lambda: 1)
    one_worker = joined(split, 5, shuffle_seed=2, augment=True)
    no_worker = joined(split, 12, shuffle_seed=2, augment=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first[0], other[0])
    for found in (one_worker, no_worker):
        assert torch.equal(found[0], first[0])
        assert torch.equal(found[1], first[1])


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
