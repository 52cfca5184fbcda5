"""Image folders of strangers: pipes, devices, links that lead nowhere, and images made to fill memory."""

from __future__ import annotations

import io
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from oba.data.describe import describe, expected_input_size
from oba.data.fingerprint import fingerprint
from oba.data.images import MOST_PIXELS, decode, decoded_pixels, open_image
from oba.data.names import Names
from oba.data.prepare import prepare
from oba.data.regular import MOST_BYTES, Budget, open_regular, read_whole
from oba.data.store import FileList
from oba.datasets import DataConfig
from oba.errors import DataError
from oba.files import read_json

MakeFolder = Callable[..., Path]


def folder(root: Path) -> DataConfig:
    return DataConfig(name="imagefolder", root=str(root))


def bomb(width: int = 14_000, height: int = 12_700) -> bytes:
    """Return a PNG of 177.8 million black pixels in some ten thousand bytes."""
    content = io.BytesIO()
    Image.new("1", (width, height)).save(content, "PNG")
    return content.getvalue()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def listening(path: Path) -> None:
    # The names of sockets are short.
    here = Path.cwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path.name)
    os.chdir(here)


def kernel_file(path: Path) -> None:
    path.symlink_to("/proc/self/status")


def large(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(MOST_BYTES + 1)


STRANGE = [
    pytest.param(pipe, "not a regular file", id="pipe"),
    pytest.param(endless, "not a regular file", id="endless"),
    pytest.param(listening, "(No such device or address|not a regular file)", id="socket"),
    pytest.param(lambda path: path.mkdir(), "not a regular file", id="folder"),
    pytest.param(loop, "Too many levels of symbolic links", id="loop"),
    pytest.param(kernel_file, r"0 bytes, but 1 were read; it changed meanwhile", id="proc"),
    pytest.param(large, r"268,435,457 bytes, but at most 268,435,456 are read", id="large"),
    pytest.param(
        lambda path: path.write_bytes(bomb()),
        r"more than 89,478,485 pixels, the most that are decoded; scale it down",
        id="bomb",
    ),
    pytest.param(
        lambda path: path.write_bytes(bomb(14_000, 13_000)),
        r"more than 89,478,485 pixels, the most that are decoded; scale it down",
        id="larger-bomb",
    ),
]


@pytest.mark.parametrize("name", ["000.png", "999.png"], ids=["first", "last"])
@pytest.mark.parametrize(("make", "reason"), STRANGE)
def test_what_is_no_image_file_is_named_and_nothing_waits_for_it(
    make_folder: MakeFolder, tmp_path: Path, make: Callable[[Path], None], reason: str, name: str
) -> None:
    root = make_folder({"a": 2, "b": 2})
    (root / "a" / name).unlink(missing_ok=True)
    make(root / "a" / name)
    assert expected_input_size(folder(root)) == (3, 12, 12)
    assert len(describe(folder(root)).classes) == 2
    seen = fingerprint(folder(root), tmp_path / "cache")
    with pytest.raises(
        DataError, match=rf"^data\.root: 1 of \d images in .* cannot be read: a/{name} \({reason}\); repl"
    ):
        prepare(folder(root), tmp_path / "out", cache=tmp_path / "cache", seen=seen)


def test_an_image_that_becomes_a_pipe_changes_the_fingerprint(make_folder: MakeFolder, tmp_path: Path) -> None:
    root, cache = make_folder({"a": 2, "b": 2}), tmp_path / "cache"
    seen = fingerprint(folder(root), cache)
    prepare(folder(root), tmp_path / "out", cache=cache, seen=seen)
    (root / "a/000.png").unlink()
    os.mkfifo(root / "a/000.png")
    assert fingerprint(folder(root), cache) != seen


@pytest.mark.parametrize("place", ["images/a/loop", "images/loop"])
def test_links_in_a_circle(make_folder: MakeFolder, tmp_path: Path, place: str) -> None:
    root = make_folder({"a": 2, "b": 2})
    (tmp_path / place).symlink_to("loop")
    if place == "images/loop":
        message = rf"^data\.root: {root}/loop: Too many levels of symbolic links; remove it$"
        with pytest.raises(DataError, match=message):
            describe(folder(root))
    else:
        assert describe(folder(root)).class_sizes == [2, 2]


def test_links_to_folders_above_are_not_followed_without_end(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"a": 2, "b": 2})
    (root / "a/up").symlink_to("..")
    assert prepare(folder(root), tmp_path / "out").train_images == 4


def test_linked_images_are_read(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"a": 2, "b": 2})
    (root / "a/000.png").rename(tmp_path / "elsewhere.png")
    (root / "a/000.png").symlink_to(tmp_path / "elsewhere.png")
    assert prepare(folder(root), tmp_path / "out").train_images == 4


@pytest.mark.parametrize("form", ["EPS", "PPM", "PCX", "TGA", "ICO"])
def test_a_file_is_of_a_known_format_whatever_its_name(form: str) -> None:
    content = io.BytesIO()
    Image.new("RGB", (16, 16)).save(content, form)
    with pytest.raises(DataError, match=r"^not an image$"):
        decode(content.getvalue())


def test_a_progressive_jpeg_is_held_whole() -> None:
    for progressive, held in ((False, 50 * 30), (True, 400 * 240)):
        content = io.BytesIO()
        Image.new("RGB", (400, 240)).save(content, "JPEG", progressive=progressive)
        image = open_image(content)
        image.draft(None, (1, 1))
        assert decoded_pixels(image, (240, 400)) == held


@pytest.mark.parametrize("name", ["../images/a/000.png", "/etc/passwd", "a/../../secret", "..", "a/\x00"])
def test_names_in_a_list_stay_below_its_root(make_folder: MakeFolder, name: str) -> None:
    root = make_folder({"a": 1, "b": 1})
    sizes = np.array([(root / "a/000.png").stat().st_size])
    files = FileList(root, Names.of([name]), sizes, np.zeros((1, 8), dtype=np.uint8))
    message = rf"^{root}: the list of its images names {re.escape(repr(name))}, which lies elsewhere; prepare again$"
    with pytest.raises(DataError, match=message):
        files.read(0, 3)


def test_an_image_that_became_a_pipe_is_not_waited_for(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 1})
    files = FileList(root, Names.of(["a/000.png"]), np.array([9]), np.zeros((1, 8), dtype=np.uint8))
    (root / "a/000.png").unlink()
    os.mkfifo(root / "a/000.png")
    with pytest.raises(
        DataError, match=r"a/000\.png: not a regular file; it was there when the data set was prepared$"
    ):
        files.read(0, 3)


def test_a_file_that_grows_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    stream, status = open_regular(path)
    path.write_bytes(b"1234567")
    with stream, pytest.raises(DataError, match=r"^5 bytes, but 6 were read; it changed meanwhile$"):
        read_whole(stream, status)


def test_threads_share_a_budget() -> None:
    budget, held, most = Budget(10), 0, 0
    lock = threading.Lock()

    def work(part: int) -> None:
        nonlocal held, most
        for _ in range(50):
            with budget.taken(part):
                with lock:
                    held += min(part, 10)
                    most = max(most, held)
                with lock:
                    held -= min(part, 10)

    threads = [threading.Thread(target=work, args=(part,)) for part in (1, 3, 4, 6, 10, 99)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert (held, 0 < most <= 10) == (0, True)


def test_an_error_gives_the_budget_back() -> None:
    budget = Budget(1)
    for _ in range(2):
        with pytest.raises(KeyError), budget.taken(1):
            raise KeyError


MEMORY = """
import json, resource
from pathlib import Path
from oba.data import look
from oba.layout import Coordinates
from oba.stages.job import execute
from oba.study import load_study
look.usable_cpus, look._CHUNK = lambda: 8, 1
study = load_study(Path("study.yaml"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
execute("prepare", study, Coordinates(), source=Path("study.yaml"))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_large_images_are_decoded_one_after_another(
    make_folder: MakeFolder, tmp_path: Path, study_values: dict[str, Any]
) -> None:
    root, edge = make_folder({"a": 1, "b": 1}), 6_800
    assert MOST_PIXELS // edge**2 == 1
    content = io.BytesIO()
    Image.new("L", (edge, edge)).save(content, "PNG", compress_level=1)
    for number in range(5):
        (root / f"b/{number}.png").write_bytes(content.getvalue())
    data = {"name": "imagefolder", "root": str(root), "image_size": 16}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study_values | {"data": data}))
    done = subprocess.run([sys.executable, "-c", MEMORY], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert read_json(tmp_path / "results/tiny/data/data.json")["train_images"] == 7
    # Of one at a time: as it is decoded (1 byte a pixel) and as colour (4).
    assert int(done.stdout) < 1.5 * 5 * edge**2
