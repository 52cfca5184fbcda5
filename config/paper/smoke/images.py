"""Make a folder of noisy JPEG images in ImageNet's layout, to try a study of config/paper without its images.

Run ``python config/paper/smoke/images.py data/smoke-32 --size 32 --classes 10 --per-class 8``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image


def main() -> None:
    """Write ``train/<class>/*.JPEG`` and ``val/<class>/*.JPEG``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=32, help="Edge in pixels.")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--per-class", type=int, default=8, help="Training images of a class; half as many to test.")
    given = parser.parse_args()
    draw = np.random.default_rng(0)
    for part, count in (("train", given.per_class), ("val", max(1, given.per_class // 2))):
        for label in range(given.classes):
            folder = given.folder / part / f"n{label:08d}"
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                colour = np.array([label % 3, label // 3 % 3, label // 9]) * 60
                pixels = draw.integers(0, 120, (given.size, given.size, 3)) + colour
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:04d}.JPEG")


if __name__ == "__main__":
    main()
