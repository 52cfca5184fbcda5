"""Augmented images per second: whole batches on the device, beside torchvision's transforms image by image.

Both sides pad, crop, mirror and normalise 32x32 colour images on the CPU, in turns; medians over the rounds count.
torchvision's side is the usual one: PIL images through a DataLoader whose worker processes stay alive.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from command import argument_parser, write_figures
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from oba.data.bundle import ArrayPixels, Split
from oba.datasets import AugmentConfig

MEAN, STD, PADDING, EDGE = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25], 4, 32


class PerImage(Dataset):
    """One image at a time through torchvision's transforms."""

    def __init__(self, images: np.ndarray) -> None:
        """Compose the transforms.

        Args:
            images: (N, H, W, C) uint8.
        """
        self.images = images
        self.change = transforms.Compose([
            transforms.ToPILImage(),
            transforms.RandomCrop(EDGE, padding=PADDING),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ])

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Return one augmented image and a label."""
        return self.change(self.images[index]), 0


def rate(epoch: Callable[[], int]) -> float:
    """Time one epoch.

    Args:
        epoch: Goes through the images and returns their number.

    Returns:
        Images per second.
    """
    start = time.perf_counter()
    count = epoch()
    return count / (time.perf_counter() - start)


def main() -> None:
    """Measure both sides in turns and print a table."""
    parser = argument_parser(__doc__)
    parser.add_argument("--images", type=int, default=10_000, help="images per epoch")
    parser.add_argument("--rounds", type=int, default=5, help="timed epochs of each side")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2, help="threads of the batches")
    parser.add_argument("--workers", type=int, default=2, help="processes of torchvision's loader")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    images = np.random.default_rng(0).integers(0, 256, (options.images, EDGE, EDGE, 3), dtype=np.uint8)
    split = Split(
        ArrayPixels(images, torch.device("cpu")),
        torch.zeros(options.images, dtype=torch.int64),
        list(range(options.images)),
        mean=MEAN,
        std=STD,
        augment=AugmentConfig(crop="pad", padding=PADDING, flip=True),
    )
    loader = DataLoader(
        PerImage(images), options.batch_size, shuffle=True, num_workers=options.workers, persistent_workers=True
    )
    sides: dict[str, Callable[[], int]] = {
        "batches": lambda: sum(len(y) for _, y in split.batches(options.batch_size, shuffle_seed=1, augment=True)),
        "per image": lambda: sum(len(y) for _, y in loader),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(options.rounds + 1):
        for name, epoch in sides.items():
            measured = rate(epoch)
            if number:  # the first epoch starts the workers and fills the caches
                rates[name].append(measured)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ratio = statistics.median(a / b for a, b in zip(rates["batches"], rates["per image"], strict=True))

    print(f"{'side':<12}{'images/s':>12}{'slowest':>12}{'fastest':>12}")
    for name, values in rates.items():
        print(f"{name:<12}{medians[name]:>12,.0f}{min(values):>12,.0f}{max(values):>12,.0f}")
    print(f"batches are {ratio:.1f} times as fast (median of {options.rounds} paired rounds)")
    write_figures(options, {"images_per_second": medians, "ratio": ratio, "rates": rates})


if __name__ == "__main__":
    main()
