"""Images per second from JPEG files: our loader beside torchvision's ImageFolder and timm's loader, and its steps.

Every side reads the same folder of 500x375 JPEGs that this script makes, cuts a random part out of each image, resizes
it to 224x224, mirrors half of them and normalises, with as many processes, which stay alive between epochs. The sides
take turns, after one epoch each that is not counted; medians over the rounds count. The steps are timed in one process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command import argument_parser, write_figures
from PIL import Image
from timm.data.dataset_factory import create_dataset
from timm.data.loader import create_loader
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from oba.data import load_bundle, make_splits
from oba.data.augment import Changes
from oba.data.changes import View, view_batch
from oba.data.images import crop_and_resize, decode, with_channels
from oba.data.prepare import prepare
from oba.data.store import digest_of
from oba.datasets import AugmentConfig, DataConfig, SplitsConfig

EDGE, MEAN, STD = 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 64
"""Images that are changed in one call; their time is that of one."""
CPU, POLICY = torch.device("cpu"), "rand-m9-mstd0.5-inc1"
Epoch = Callable[[], Iterable]


def photograph(generator: np.random.Generator) -> Image.Image:
    """Return smooth colours with some noise: 500x375 pixels that take about as many bytes as ImageNet's do.

    Args:
        generator: Source of randomness.

    Returns:
        The image.
    """
    smooth = Image.fromarray(generator.integers(0, 256, (25, 34, 3), dtype=np.uint8)).resize((500, 375))
    noisy = np.asarray(smooth, dtype=np.float64) + generator.normal(0, 14, (375, 500, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def make_folder(root: Path, count: int) -> None:
    """Write a training folder of ten classes, and a test image for each.

    Args:
        root: The folder.
        count: Number of training images.
    """
    generator = np.random.default_rng(0)
    for number in range(count + 10):
        part = "train" if number < count else "val"
        path = root / part / f"n{number % 10:08}" / f"{number}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(generator).save(path, quality=90)


def our_side(root: Path, out: Path, batch_size: int) -> tuple[Epoch, int]:
    """Prepare the folder.

    Args:
        root: The images.
        out: Where the prepared folder goes.
        batch_size: Images per batch.

    Returns:
        What starts an epoch, and the number of its images.
    """
    config = DataConfig(name="imagefolder", root=str(root), image_size=EDGE, normalization="imagenet")
    prepare(config, out)
    splits = make_splits(out, config, SplitsConfig(val=0.05), 0)
    split = load_bundle(out, splits, AugmentConfig(crop="resized", flip=True), CPU).train
    seeds = iter(range(10**6))
    return lambda: split.batches(batch_size, shuffle_seed=next(seeds), augment=True), len(split)


def torchvision_side(root: Path, batch_size: int, workers: int) -> tuple[Epoch, int]:
    """Return what starts an epoch of torchvision's ImageFolder in torch's DataLoader, and the number of images."""
    change = transforms.Compose([
        transforms.RandomResizedCrop(EDGE),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ])
    folder = ImageFolder(str(root / "train"), change)
    loader = DataLoader(folder, batch_size, shuffle=True, num_workers=workers, persistent_workers=True)
    return lambda: loader, len(folder)


def timm_side(root: Path, batch_size: int, workers: int) -> tuple[Epoch, int]:
    """Return what starts an epoch of timm's loader with its prefetcher on the CPU, and the number of images."""
    folder: Any = create_dataset("", root=str(root), split="train")
    loader = create_loader(
        folder,
        (3, EDGE, EDGE),
        batch_size,
        is_training=True,
        interpolation="bilinear",
        color_jitter=0.0,
        num_workers=workers,
        mean=MEAN,
        std=STD,
        device=CPU,
        persistent_workers=True,
    )
    return lambda: loader, len(loader) * batch_size  # it leaves out a last batch that is not full


def rate(epoch: Epoch) -> float:
    """Return images per second of one epoch."""
    start = time.perf_counter()
    count = sum(len(targets) for _, targets in epoch())
    return count / (time.perf_counter() - start)


def step_times(path: Path, repeats: int) -> dict[str, float]:
    """Time what is done to one image.

    Args:
        path: A JPEG file.
        repeats: Calls per step.

    Returns:
        Microseconds by step.
    """
    content, box = path.read_bytes(), (30, 40, 250, 260)
    image, seen = with_channels(decode(content)[0], 3), np.arange(BATCH)
    small = crop_and_resize(image, box, EDGE, EDGE)

    def change(**config: str) -> Callable[[], object]:
        changes = Changes(AugmentConfig.model_validate(config), 1, MEAN)
        return lambda: view_batch(lambda _: small, seen, View((3, EDGE, EDGE)), changes)

    single: dict[str, Callable[[], object]] = {
        "read the file": path.read_bytes,
        "digest of its bytes": lambda: digest_of(content),
        "decode": lambda: decode(content),
        "decode at the least scale (prepare)": lambda: decode(content, (1, 1)),
        "crop and resize": lambda: crop_and_resize(image, box, EDGE, EDGE),
    }
    batches: dict[str, Callable[[], object]] = {
        "to an array, nothing changed": change(),
        "the same with draws and seeds of an empty policy": change(policy="rand-m0-p0"),
        f"the same with {POLICY}": change(policy=POLICY),
    }
    times = {name: fastest(step, repeats) for name, step in single.items()}
    return times | {name: fastest(step, repeats // 10) / BATCH for name, step in batches.items()}


def fastest(step: Callable[[], object], repeats: int) -> float:
    """Return the microseconds that one call takes in the fastest of seven rounds."""
    rounds = []
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(repeats):
            step()
        rounds.append((time.perf_counter() - start) / repeats)
    return 1e6 * min(rounds)


def measure(options: argparse.Namespace, root: Path, out: Path) -> dict[str, object]:
    """Run all sides in turns and print a table.

    Args:
        options: The command line.
        root: The images.
        out: Where the prepared folder goes.

    Returns:
        The figures.
    """
    sides = {
        "oba": our_side(root, out, options.batch_size),
        "torchvision": torchvision_side(root, options.batch_size, options.workers),
        "timm": timm_side(root, options.batch_size, options.workers),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(options.rounds + 1):
        for name, (epoch, _) in sides.items():
            measured = rate(epoch)
            if number:  # the first epoch starts the processes and fills the caches
                rates[name].append(measured)
    print(f"{'side':<14}{'images':>8}{'images/s':>10}{'slowest':>10}{'fastest':>10}{'oba / side':>12}")
    ratios = {}
    for name, values in rates.items():
        ratios[name] = statistics.median(a / b for a, b in zip(rates["oba"], values, strict=True))
        figures = (statistics.median(values), min(values), max(values))
        print(f"{name:<14}{sides[name][1]:>8,}{''.join(f'{value:>10,.0f}' for value in figures)}{ratios[name]:>12.2f}")
    return {"rates": rates, "ratios": ratios}


def main() -> None:
    """Make the images, measure, and print."""
    parser = argument_parser(__doc__)
    parser.add_argument("--images", type=int, default=2000, help="training images")
    parser.add_argument("--rounds", type=int, default=5, help="timed epochs of each side")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2, help="reading processes of each side")
    parser.add_argument("--repeats", type=int, default=50, help="calls of each step")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["OBA_WORKERS"] = str(options.workers)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "images"
        make_folder(root, options.images)
        sizes = [path.stat().st_size for path in root.rglob("*.JPEG")]
        print(f"{len(sizes):,} files of {statistics.mean(sizes):,.0f} bytes on average")
        times = step_times(next(root.rglob("*.JPEG")), options.repeats)
        for name, microseconds in times.items():
            print(f"{name:<52}{microseconds:>10,.0f} us")
        figures = measure(options, root, Path(folder) / "prepared")
    write_figures(options, {"steps_us": times, **figures})


if __name__ == "__main__":
    main()
