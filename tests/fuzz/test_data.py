"""Damaged prepared images and splits are refused; what is read is what was written."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from oba.data import make_splits
from oba.data.images import decode
from oba.data.prepare import prepare
from oba.data.split_files import read_splits, write_splits
from oba.data.store import open_prepared
from oba.data.types import PREPARED_FILES
from oba.datasets import DataConfig, SplitsConfig
from oba.errors import DataError, FileError

NAMES = [*PREPARED_FILES, "split.json", "split.npy"]
FOREIGN = [b"", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"\x93NUMPY", b"\x80\x04.", b"[]", b"null", b"[" * 100_000]
FREE = {"name", "crop_fraction", "interpolation"}
"""What ``data.json`` says that changes no image: a name, and how images are resized that stay files."""
Damaged = Callable[[Any], st.SearchStrategy[Any]]
Refusal = Callable[[Callable[[], object]], tuple[type, str] | None]


@pytest.fixture(scope="module", params=[None, 16], ids=["files", "arrays"])
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of prepared and divided images of 70 pixels, which stay files, or of 16, which do not."""
    root = tmp_path_factory.mktemp("pictures")
    for seed, label in enumerate("ab"):
        (root / "images" / label).mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng([seed, number]).integers(0, 256, (70, 70, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"images/{label}/{number}.png")
    config = DataConfig(name="imagefolder", root=str(root / "images"), image_size=request.param)
    prepare(config, root / "out")
    write_splits(root / "out/split.json", make_splits(root / "out", config, SplitsConfig(val=0.4, test=0.4), 0))
    return root / "out"


def read(directory: Path) -> list[Any]:
    """Return all that stages see of a prepared folder."""
    found, splits = open_prepared(directory, whole=True), read_splits(directory / "split.json")
    images = found.images.tobytes() if found.images is not None else b""
    if found.files is not None:
        images += b"".join(found.files.read(index, 3).tobytes() for index in range(len(found.files)))
    info = {key: value for key, value in found.info.to_json().items() if key not in FREE}
    parts = [splits.parts.tobytes(), splits.mean, splits.std, splits.seed, splits.data]
    return [info, found.labels.tobytes(), images, *parts]


@given(data=st.data(), name=st.sampled_from(NAMES))
def test_damaged_files(
    damaged_bytes: Damaged, refusal: Refusal, prepared: Path, data: st.DataObject, name: str
) -> None:
    whole = (prepared / name).read_bytes()
    before = read(prepared)
    part = data.draw(st.sampled_from([len(whole), 128]))  # as often in the header of an array
    damaged = data.draw(damaged_bytes(whole[:part]).map(lambda head: head + whole[part:]) | st.sampled_from(FOREIGN))
    try:
        (prepared / name).write_bytes(damaged)
        if refused := refusal(lambda: read(prepared)):
            assert refused[0] in {DataError, FileError}
            assert "\n" not in refused[1]
        else:
            assert read(prepared) == before
    finally:
        (prepared / name).write_bytes(whole)


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    """Return small image files of several formats."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    found = {}
    for form in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"):
        content = io.BytesIO()
        image.save(content, form)
        found[form] = content.getvalue()
    return found


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged metadata, which changes no pixel
@given(data=st.data(), form=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"]))
def test_damaged_images(
    damaged_bytes: Damaged, refusal: Refusal, pictures: dict[str, bytes], data: st.DataObject, form: str
) -> None:
    whole = pictures[form]
    part = data.draw(st.sampled_from([len(whole), 100]))
    content = data.draw(damaged_bytes(whole[:part])) + whole[part:]
    if refused := refusal(lambda: decode(content)):
        assert refused[0] is DataError
        assert "\n" not in refused[1]


@given(content=st.binary(max_size=300))
@example(content=b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/x) (w) file\n")
def test_any_bytes_are_no_image(refusal: Refusal, content: bytes) -> None:
    refused = refusal(lambda: decode(content))
    assert refused is not None
    assert refused[0] is DataError
