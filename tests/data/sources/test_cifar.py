"""CIFAR through torchvision: tiny data sets in the published format, and what happens when it is not there."""

from __future__ import annotations

import hashlib
import struct
import urllib.error
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from oba.data.prepare import prepare
from oba.datasets import DataConfig
from oba.errors import DataError

PER_FILE = 4


def text(value: str) -> bytes:
    return b"U" + bytes([len(value)]) + value.encode()


def array(images: np.ndarray) -> bytes:
    """Pickle (N, 3072) uint8 as the numpy of 2009 did, opcode by opcode."""
    rows, columns = images.shape
    size = b"J" + struct.pack("<i", rows) + b"J" + struct.pack("<i", columns) + b"\x86"
    dtype = b"cnumpy\ndtype\n" + text("u1") + b"K\x00K\x01\x87R(K\x03" + text("|")
    dtype += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    data = images.tobytes()
    state = b"(K\x01" + size + dtype + b"\x89T" + struct.pack("<i", len(data)) + data + b"tb"
    return b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text("b") + b"\x87R" + state


def numbers(values: list[int]) -> bytes:
    return b"](" + b"".join(b"K" + bytes([value]) for value in values) + b"e"


def strings(values: list[str]) -> bytes:
    return b"](" + b"".join(map(text, values)) + b"e"


def dictionary(**items: bytes) -> bytes:
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in items.items()) + b"u."


class Fake:
    """A tiny CIFAR on disk."""

    def __init__(self, root: Path, base_folder: str, names: list[str]) -> None:
        self.root = root
        self.folder = root / base_folder
        self.images = np.random.default_rng(0).integers(0, 256, (len(names) * PER_FILE, 3072), dtype=np.uint8)
        self.labels = [n % 10 for n in range(len(self.images))]

    def write(self, name: str, content: bytes) -> list[str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(content)
        return [name, hashlib.md5(content).hexdigest()]


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Write a tiny CIFAR-10 of five training files and a test file, with checksums of their own."""
    cls = datasets.CIFAR10
    names = [name for name, _ in cls.train_list + cls.test_list]
    fake = Fake(tmp_path / "cifar", cls.base_folder, names)
    sums = []
    for number, name in enumerate(names):
        part = slice(number * PER_FILE, (number + 1) * PER_FILE)
        content = dictionary(data=array(fake.images[part]), labels=numbers(fake.labels[part]))
        sums.append(fake.write(name, content))
    _, md5 = fake.write(cls.meta["filename"], dictionary(label_names=strings([f"class{n}" for n in range(10)])))
    monkeypatch.setattr(cls, "train_list", sums[:-1])
    monkeypatch.setattr(cls, "test_list", sums[-1:])
    monkeypatch.setattr(cls, "meta", {**cls.meta, "md5": md5})
    return fake


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let downloads fail, and note what was asked for."""
    asked: list[str] = []

    def fail(url: str, *_: object, **__: object) -> None:
        asked.append(url)
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fail)
    return asked


def test_cifar10(tmp_path: Path, cifar10: Fake, no_network: list[str]) -> None:
    info = prepare(DataConfig(name="cifar10", root=str(cifar10.root)), tmp_path / "out")
    assert info.classes == [f"class{n}" for n in range(10)]
    assert info.input_size == (3, 32, 32)
    assert (info.train_images, info.test_images, info.storage) == (20, 4, "arrays")
    stored = np.load(tmp_path / "out/images.npy")
    assert np.array_equal(stored.transpose(0, 3, 1, 2).reshape(24, 3072), cifar10.images)
    assert np.load(tmp_path / "out/labels.npy").tolist() == cifar10.labels
    assert no_network == []


def test_cifar100_reads_fine_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[str]) -> None:
    cls = datasets.CIFAR100
    fake = Fake(tmp_path / "data/cifar100", cls.base_folder, ["train", "test"])
    sums = []
    for number, name in enumerate(["train", "test"]):
        part = slice(number * PER_FILE, (number + 1) * PER_FILE)
        labels = numbers(fake.labels[part])
        sums.append(
            fake.write(name, dictionary(data=array(fake.images[part]), fine_labels=labels, coarse_labels=numbers([0])))
        )
    _, md5 = fake.write("meta", dictionary(fine_label_names=strings([f"fine{n}" for n in range(100)])))
    monkeypatch.setattr(cls, "train_list", sums[:1])
    monkeypatch.setattr(cls, "test_list", sums[1:])
    monkeypatch.setattr(cls, "meta", {**cls.meta, "md5": md5})
    monkeypatch.chdir(tmp_path)  # the root is data/cifar100 by default
    info = prepare(DataConfig(name="cifar100"), tmp_path / "out")
    assert info.classes[-1] == "fine99"
    assert np.load(tmp_path / "out/labels.npy").tolist() == fake.labels
    assert no_network == []


def test_failed_download_says_what_to_put_where(tmp_path: Path, no_network: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        prepare(DataConfig(name="cifar10", root=str(tmp_path / "new")), tmp_path / "out")
    message = str(caught.value)
    assert no_network == [datasets.CIFAR10.url]
    assert message.startswith("data.root: cifar10 could not be read from ")
    assert "no network" in message
    assert f"put cifar-10-python.tar.gz (md5 {datasets.CIFAR10.tgz_md5}" in message
    assert f"into {tmp_path / 'new'};" in message
    assert "\n" not in message


def test_wrong_checksum_is_not_downloaded_over(tmp_path: Path, cifar10: Fake, no_network: list[str]) -> None:
    damaged = cifar10.folder / "data_batch_3"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"corrupted.* where {cifar10.folder} is damaged, remove it$"):
        prepare(DataConfig(name="cifar10", root=str(cifar10.root)), tmp_path / "out")
    assert no_network == []
