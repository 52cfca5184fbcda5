"""Seconds and peak memory of the criterion ``reconstruction`` and of every update, beside those of plain gradients.

Each is measured in a process of its own, because the peak of a process never falls. Weights and images are random; half
of every group's structures go.

Run ``python benchmarks/updates.py vgg19 --images 128`` or
``python benchmarks/updates.py torchvision/resnet50 --size 64``.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import resource
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from command import argument_parser, write_figures
from torch import nn

from oba import registry
from oba.importance import score_structures
from oba.models.build import build_model
from oba.pruning.cut import Cut, Images, make_update
from oba.pruning.dependencies import find_groups
from oba.pruning.replay import apply_plan, removal_plan
from oba.structures import StructureGroup

CLASSES = 10


def gradients(model: nn.Module, images: Images) -> None:
    """Compute the gradient of the loss on every batch.

    Args:
        model: The net.
        images: The images.
    """
    for inputs, targets in images():
        model.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()


def halved(model: nn.Module, groups: list[StructureGroup]) -> Cut:
    """Remove the second half of every group.

    Args:
        model: The net.
        groups: Its structures.

    Returns:
        What was cut.
    """
    removed = {group.name: range(len(group) // 2, len(group)) for group in groups}
    after, plan = copy.deepcopy(model), removal_plan(model, groups, removed)
    apply_plan(after, plan)
    return Cut(model, after, groups, removed, plan)


def work(name: str, model: nn.Module, groups: list[StructureGroup], images: Images) -> Callable[[], object]:
    """Return what is measured.

    Args:
        name: ``gradients``, ``reconstruction``, or an update's name, which may be followed by one option.
        model: The net.
        groups: Its structures.
        images: The images.

    Returns:
        A function without arguments.
    """
    if name == "gradients":
        return lambda: gradients(model, images)
    if name == "reconstruction":
        return lambda: score_structures(model, groups, images(), name)
    update, _, inputs = name.partition(" ")
    cut = halved(model, groups)
    return lambda: make_update(update, **({"inputs": inputs} if inputs else {})).adjust(cut, images)


def measure(name: str, options: argparse.Namespace) -> tuple[float, float]:
    """Run one of them.

    Args:
        name: See :func:`work`.
        options: The command line's.

    Returns:
        Seconds, and the peak memory of the process in MB, PyTorch and the nets included.
    """
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    edges = (3, options.size, options.size)
    model = build_model(options.model, num_classes=CLASSES, input_size=edges).eval()
    groups = find_groups(model, edges, residual_streams=options.streams)
    inputs, targets = torch.randn(options.images, *edges), torch.randint(CLASSES, (options.images,))
    run = work(name, model, groups, lambda: zip(inputs.split(options.batch), targets.split(options.batch), strict=True))
    start = time.perf_counter()
    run()
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure one network and print a table."""
    parser = argument_parser(__doc__)
    parser.add_argument("model", help="resnet20, resnet32x4, vgg19, timm/<name> or torchvision/<name>")
    parser.add_argument("--images", type=int, default=128, help="calibration images")
    parser.add_argument("--batch", type=int, default=64, help="images of a batch")
    parser.add_argument("--size", type=int, default=32, help="edge of the images in pixels")
    parser.add_argument("--streams", action="store_true", help="prune residual streams too")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="what to measure, by the names in the table")
    options = parser.parse_args()
    updates = [name for name in registry.names("update") if name != "none"]
    names = options.only or ["gradients", *updates, "least-squares before", "reconstruction"]
    figures: dict[str, dict[str, float]] = {}
    print(f"{options.model}, {options.images} images of {options.size}² in batches of {options.batch}")
    for name in names:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, megabytes = pool.apply(measure, (name, options))
        figures[name] = {"seconds": seconds, "megabytes": megabytes}
        print(f"{name:20} {seconds:7.1f} s {megabytes:8.0f} MB", flush=True)
    write_figures(options, figures)


if __name__ == "__main__":
    main()
