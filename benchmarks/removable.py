"""What fraction of a network's MACs can go: the table of docs/method.md.

Run ``python benchmarks/removable.py resnet32x4 timm/vit_tiny_patch16_224@224``; ``@`` gives the edge of the images, 64
without it. One structure of every group stays. Weights are random, and every group is checked as in a study.
"""

from __future__ import annotations

import argparse
from collections import Counter

from oba.models.build import build_model
from oba.pruning.cost import CostModel
from oba.pruning.dependencies import Structures, find_structures
from oba.structures import STREAM

_TERSE = ("an output of the net", "structures.residual_streams is off")
"""Parts of reasons that hold for the last layer of every net, or that the other column answers."""


def removable(structures: Structures, cost: CostModel) -> float:
    """Return the fraction of the MACs that is not left when every group has one structure.

    Args:
        structures: What may go.
        cost: The net's cost model; left as found.

    Returns:
        Between 0 and 1.
    """
    left = cost.copy()
    for group in structures.groups:
        left.remove(group, len(group) - 1)
    return 1 - left.macs / cost.macs


def row(name: str, size: int) -> str:
    """Return a network's line of the table.

    Args:
        name: A registered name.
        size: Edge of its images in pixels.

    Returns:
        Groups and removable MACs without and with streams and dimensions, and what stays whole for another reason.
    """
    edges = (3, size, size)
    model = build_model(name, num_classes=10, input_size=edges)
    cost = CostModel.of(model, edges)
    plain = find_structures(model, edges)
    everything = find_structures(model, edges, residual_streams=True, head_dims=True)
    kinds = Counter(group.kind for group in everything.groups if group.kind != STREAM)
    reasons = Counter(why for why in everything.whole.values() if not why.endswith(_TERSE))
    whole = "; ".join(f"{why} ({count})" for why, count in reasons.most_common()) or "–"
    fractions = (f"{100 * removable(found, cost):.1f} %" for found in (plain, everything))
    return " | ".join([f"| `{name}`, {size}²", *fractions, ", ".join(kinds), f"{whole} |"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="resnet20, vgg19, timm/<name> or torchvision/<name>, perhaps @size")
    print("| network | channels, neurons, heads | also streams, dimensions | kinds inside of blocks | stays whole |")
    print("|---|---:|---:|---|---|")
    for model in parser.parse_args().models:
        name, _, size = model.partition("@")
        print(row(name, int(size or 64)), flush=True)


if __name__ == "__main__":
    main()
