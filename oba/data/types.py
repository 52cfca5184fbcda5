"""What the rooms hand to each other about images: sources, prepared data, splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from oba.errors import FileError

if TYPE_CHECKING:
    import numpy as np

INFO, LABELS, IMAGES = "data.json", "labels.npy", "images.npy"
ROOT, NAMES, FILES = "root.json", "names.npy", "files.npy"
PREPARED_FILES = (LABELS, IMAGES, NAMES, FILES, ROOT, INFO)
"""What a prepared folder always holds, in the order of writing; of images and files, what does not apply is empty."""


@dataclass(frozen=True)
class ImageArrays:
    """The content of a data set that is read as a whole."""

    classes: list[str]
    """Names of the classes, by label."""
    images: np.ndarray
    """(N, H, W, C) uint8 with one channel (grey) or three (RGB): those to train, to validate and to test."""
    labels: np.ndarray
    """(N,) int64."""
    test_images: int
    """Number of the source's own test images; 0 without."""
    val_images: int = 0
    """Number of its own validation images; 0 without."""


@dataclass(frozen=True)
class ArraySource:
    """A data set that is read as a whole, before it is read."""

    read: Callable[[], ImageArrays]
    """Reads it; raises :class:`oba.errors.DataError` when images are missing or damaged."""
    class_sizes: list[int]
    """Number of training images of each class, by label."""
    test_images: int
    """Number of the source's own test images; 0 without."""
    input_size: tuple[int, int, int]
    """(C, H, W) of its images."""
    root: Path = Path()
    """Folder that `files` are relative to."""
    val_images: int = 0
    """Number of its own validation images; 0 without."""
    files: list[str] = field(default_factory=list)
    """Files that `read` reads and that a user may change: when one changes, the data set is prepared again."""


@dataclass(frozen=True)
class ImageFiles:
    """A data set of image files; none has been opened."""

    classes: list[str]
    """Names of the classes, by label."""
    root: Path
    """Folder that `files` are relative to."""
    files: list[str]
    """N names with forward slashes: images to train, to validate and to test."""
    labels: np.ndarray
    """(N,) int64."""
    test_images: int
    """Number of the source's own test images; 0 without."""
    val_images: int = 0
    """Number of its own validation images; 0 without."""


class _Record:
    """Reading and writing of a dataclass as plain values."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values, which :meth:`from_json` reads."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, value: Any, where: str | Path | None = None) -> Self:
        """Read plain values.

        Args:
            value: What :meth:`to_json` returned, possibly after a round trip through JSON.
            where: The file they come from, for the message.

        Returns:
            The record.

        Raises:
            FileError: If a field is missing or of the wrong type.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_python(value)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or cls.__name__
            raise FileError(f"{where or cls.__name__}: {field}: {first['msg']}; make the file again") from error


@dataclass(frozen=True)
class DataInfo(_Record):
    """A prepared data set, as ``data.json`` describes it."""

    name: str
    """The data set's name in the study."""
    classes: list[str]
    """Names of the classes, by label."""
    input_size: tuple[int, int, int]
    """(C, H, W) of every image as a net sees it."""
    train_images: int
    """Size of the training pool: indices 0 to train_images - 1."""
    val_images: int
    """Number of the source's own validation images, with the indices that follow; 0 when it has none."""
    test_images: int
    """Number of the source's own test images, with the last indices; 0 when it has none."""
    digest: str
    """Digest of images, labels and class names."""
    storage: Literal["arrays", "files"]
    """Whether images lie decoded in ``images.npy``, or are read from the files that ``names.npy`` names."""
    train_sizes: list[int]
    """Number of training images of each class, by label."""
    val_sizes: list[int]
    """Number of the source's own validation images of each class, by label; all 0 when it has none."""
    test_sizes: list[int]
    """Number of the source's own test images of each class, by label; all 0 when it has none."""
    files_digest: str
    """Digest of the list of image files: their names, sizes and digests."""
    crop_fraction: float
    """What the centre crop leaves of the shorter edge where images stay files and are not augmented."""
    interpolation: Literal["bilinear", "bicubic"]
    """How they are resized then."""

    @property
    def images(self) -> int:
        """Number of all images."""
        return self.train_images + self.val_images + self.test_images

    def own(self, part: str) -> range:
        """Return the indices of one of the source's own ``PARTS``; empty where it has none. `train` is the pool."""
        counts = (self.train_images, self.val_images, self.test_images)
        at = PARTS.index(part)
        return range(sum(counts[:at]), sum(counts[: at + 1]))


@dataclass(frozen=True, eq=False)
class Splits:
    """How one seed divides a prepared data set. Indices are those of :class:`DataInfo`."""

    seed: int
    """What the splits were drawn with."""
    parts: np.ndarray
    """(N,) uint8: the position in ``PARTS`` of the part that each image belongs to."""
    mean: list[float]
    """Per channel, of pixels in [0, 1]."""
    std: list[float]
    """Per channel, of pixels in [0, 1]; positive."""
    data: str
    """Digest of the data set that is divided."""

    @cached_property
    def train(self) -> np.ndarray:
        """Images that train: int64, increasing."""
        return self._part("train")

    @cached_property
    def val(self) -> np.ndarray:
        """Images held out of the training pool: int64, increasing."""
        return self._part("val")

    @cached_property
    def test(self) -> np.ndarray:
        """Test images: int64, increasing."""
        return self._part("test")

    def _part(self, name: str) -> np.ndarray:
        return (self.parts == PARTS.index(name)).nonzero()[0]


PARTS = ("train", "val", "test")
"""The parts of a division."""
