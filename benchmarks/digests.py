"""Seconds that a job takes to compare decoded images with their digest, before it uses them.

Run ``python benchmarks/digests.py``. Images are random.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from command import argument_parser, write_figures

from oba.data.arrays import save_array
from oba.data.store import content_digest, open_prepared, write_files
from oba.data.types import IMAGES, INFO, LABELS, DataInfo
from oba.files import write_json


def write_prepared(directory: Path, count: int, edge: int) -> int:
    """Write a prepared folder.

    Args:
        directory: Where.
        count: Number of images.
        edge: Of the images, in pixels.

    Returns:
        Bytes of the images.
    """
    images = np.random.default_rng(0).integers(0, 256, (count, edge, edge, 3), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) % 2
    values = {"name": "random", "classes": ["a", "b"], "input_size": [3, edge, edge], "storage": "arrays"}
    values |= {"train_images": count, "test_images": 0, "digest": "", "files_digest": "", "test_sizes": [0, 0]}
    values |= {"train_sizes": np.bincount(labels).tolist(), "crop_fraction": 1.0, "interpolation": "bilinear"}
    digest = content_digest(DataInfo.from_json(values), labels, images)
    save_array(directory / IMAGES, images)
    save_array(directory / LABELS, labels)
    write_files(directory, None)
    write_json(directory / INFO, values | {"digest": digest})
    return images.nbytes


def main() -> None:
    """Measure one size of images and print a line."""
    parser = argument_parser(__doc__)
    parser.add_argument("--images", type=int, default=60_000, help="number of images")
    parser.add_argument("--edge", type=int, default=32, help="edge of the images in pixels")
    parser.add_argument("--rounds", type=int, default=5, help="times that they are opened")
    options = parser.parse_args()
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        size = write_prepared(Path(folder), options.images, options.edge)
        for _ in range(options.rounds):
            start = time.process_time()
            open_prepared(Path(folder))
            seconds.append(time.process_time() - start)
    median = statistics.median(seconds)
    print(f"{size / 1e6:.0f} MB: {median:.2f} s of processor time to open, {1e9 * median / size:.2f} s a GB")
    write_figures(options, {"bytes": size, "seconds": seconds})


if __name__ == "__main__":
    main()
