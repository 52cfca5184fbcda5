"""What a list of 1.28 million images takes: seconds and memory of every step before a net sees any, each in a process.

The folder is ImageNet's: 1,000 class folders in train/, and 50,000 images with a file of labels in val/. Its names are
real entries of the file system, hard links to a few hundred tiny JPEGs: listing, asking for sizes and times, and
opening cost what they cost, while reading and decoding, which are measured elsewhere, cost little. (That many links
share one inode makes asking for sizes and times cheaper than it is on a disk that has not been read.)
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import torch
from command import argument_parser, write_figures
from PIL import Image

CLASSES, TEST_SHARE = 1000, 50_000 / 1_331_167
LINKS = 20_000
"""Names of one file at most; file systems allow about 65,000."""
Figures = dict[str, float]


def make_folder(root: Path, count: int) -> None:
    """Write the folder.

    Args:
        root: The folder.
        count: Number of images, test images included.
    """
    generator = np.random.default_rng(0)
    (root / "files").mkdir(parents=True)
    files = []
    for number in range(max(300, count // LINKS + 1)):
        files.append(root / "files" / f"{number}.JPEG")
        Image.fromarray(generator.integers(0, 256, (72, 72, 3), dtype=np.uint8)).save(files[-1], quality=10)
    images, test = root / "images", round(count * TEST_SHARE)
    (images / "val").mkdir(parents=True)
    labels = []
    for number in range(test):
        name = f"ILSVRC2012_val_{number + 1:08}.JPEG"
        os.link(files[number % len(files)], images / "val" / name)
        labels.append(f"{name} n{number % CLASSES:08}\n")
    (images / "val_labels.txt").write_text("".join(labels))
    for label in range(CLASSES):
        folder = images / "train" / f"n{label:08}"
        folder.mkdir(parents=True)
        for number in range(label, count - test, CLASSES):
            os.link(files[number % len(files)], folder / f"n{label:08}_{number}.JPEG")


def memory(process: psutil.Process) -> Figures:
    """Return a process's memory in MB, without what is mapped from files: its part of what it shares, and its own."""
    fields = [line.split() for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]]
    kilobytes = {field[0].rstrip(":"): int(field[1]) for field in fields}
    part = kilobytes["Pss_Anon"] + kilobytes["Pss_Shmem"]
    return {"part": part / 1e3, "own": kilobytes["Private_Dirty"] / 1e3}


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """Return the seconds that some work takes, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def look(root: Path, out: Path) -> Figures:
    """List the images, and take their fingerprint: what every start of a study does, dry runs included."""
    from oba.data.describe import describe
    from oba.data.fingerprint import fingerprint
    from oba.datasets import DataConfig

    config = DataConfig(name="imagefolder", root=str(root), image_size=72)
    described = timed(lambda: describe(config))[0]
    return {"list": described, "fingerprint": timed(lambda: fingerprint(config, out / "source.npz"))[0]}


def prepare(root: Path, out: Path) -> Figures:
    """Prepare the images; read and decoded are those of 72 pixels."""
    from oba.data.prepare import prepare
    from oba.datasets import DataConfig

    config = DataConfig(name="imagefolder", root=str(root), image_size=72)
    return {"prepare": timed(lambda: prepare(config, out / "data", cache=out / "source.npz", seen="seen"))[0]}


def split(root: Path, out: Path) -> Figures:
    """Divide the images by a seed, and look for identical ones in two parts."""
    from oba.data.duplicates import find_duplicates
    from oba.data.split_files import write_splits
    from oba.data.splits import make_splits
    from oba.data.store import open_prepared
    from oba.datasets import DataConfig, SplitsConfig

    config = DataConfig(name="imagefolder", root=str(root), image_size=72, normalization="imagenet")
    seconds, splits = timed(lambda: make_splits(out / "data", config, SplitsConfig(val=0.05), 0))
    write_splits(out / "split.json", splits)  # pyright: ignore[reportArgumentType]
    parts = {name: getattr(splits, name) for name in ("train", "val", "test")}
    prepared = open_prepared(out / "data", whole=True)
    return {"split": seconds, "duplicates": timed(lambda: find_duplicates(prepared, parts, "warn"))[0]}


def train(root: Path, out: Path) -> Figures:
    """Open the images as every job does, and take the first batches of two epochs of 256 images a batch."""
    from oba.data import load_bundle
    from oba.data.split_files import read_splits
    from oba.datasets import AugmentConfig

    process, cpu = psutil.Process(), torch.device("cpu")
    before = memory(process)
    augment = AugmentConfig(crop="resized", flip=True)
    opened, bundle = timed(lambda: load_bundle(out / "data", read_splits(out / "split.json"), augment, cpu))
    figures = {"open": opened}
    for epoch in ("first", "second"):
        batches = bundle.train.batches(256, shuffle_seed=1, augment=True)  # pyright: ignore[reportAttributeAccessIssue]
        figures[f"first batch of the {epoch} epoch"] = timed(lambda batches=batches: next(batches))[0]
        for _ in range(20):
            next(batches)
        figures |= measured(process, before)
        batches.close()
    return figures


def torchvision(root: Path, out: Path) -> Figures:
    """Do the same as ``train`` with torchvision's ImageFolder and torch's DataLoader."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    process = psutil.Process()
    before = memory(process)
    change = transforms.Compose([transforms.RandomResizedCrop(72), transforms.ToTensor()])
    opened, folder = timed(lambda: ImageFolder(str(root / "train"), change))
    figures = {"open": opened}
    workers = int(os.environ["OBA_WORKERS"])
    loader = DataLoader(folder, 256, shuffle=True, num_workers=workers, persistent_workers=True)  # pyright: ignore
    for epoch in ("first", "second"):
        start = time.perf_counter()
        batches = iter(loader)
        next(batches)
        figures[f"first batch of the {epoch} epoch"] = time.perf_counter() - start
        for _ in range(20):
            next(batches)
        figures |= measured(process, before)
    return figures


def measured(process: psutil.Process, before: Figures) -> Figures:
    """Return what main process and workers have taken together since the former began, and the mean worker's own."""
    children = [memory(child) for child in process.children()]
    together = memory(process)["part"] + sum(child["part"] for child in children) - before["part"]
    return {"together": together, "own of a worker": sum(child["own"] for child in children) / len(children)}


STEPS = {"look": look, "prepare": prepare, "look again": look, "split": split, "train": train}
OTHERS = {"torchvision": torchvision}


def run(step: str, options: argparse.Namespace, folder: Path) -> Figures:
    """Run a step in a process of its own.

    Args:
        step: Its name.
        options: The command line.
        folder: Where the images and what is made of them lie.

    Returns:
        Its figures, with the peak of the memory that it has taken, in MB.
    """
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    done = subprocess.run(
        command, env={**os.environ, "OBA_WORKERS": str(options.workers)}, stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Make the folder, run all steps and print their figures."""
    parser = argument_parser(__doc__)
    parser.add_argument("--images", type=int, default=1_331_167, help="ImageNet's training and validation images")
    parser.add_argument("--workers", type=int, default=2, help="reading processes")
    parser.add_argument("--step", choices=[*STEPS, *OTHERS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        figures = {**STEPS, **OTHERS}[options.step](options.folder / "images", options.folder)
        figures["peak"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1e3
        print(json.dumps(figures))
        return
    results: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as folder:
        make_folder(Path(folder), options.images)
        for step in (*STEPS, *OTHERS):
            results[step] = run(step, options, Path(folder))
            for name, value in results[step].items():
                unit = "MB" if name in {"together", "own of a worker", "peak"} else "s"
                print(f"{step:<14}{name:<32}{value:>10,.2f} {unit}", flush=True)
    write_figures(options, {"steps": results})


if __name__ == "__main__":
    main()
