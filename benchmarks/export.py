"""How near exported nets are to the net, and what pruning is worth in each runtime: the tables of docs/export.md.

Run ``python benchmarks/export.py resnet20 torchvision/resnet18@64``; ``@`` gives the edge of the images, 32 without it.
Weights are random, and the smallest go, as many of every group, down to ``--keep`` of the MACs. ``--round-to 8`` leaves
multiples of eight channels.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from command import argument_parser, write_figures

import oba
from oba.export.formats import Format
from oba.export.metadata import Metadata
from oba.files import read_record
from oba.models.build import build_model


def exports(name: str, size: int, options: argparse.Namespace) -> dict[Format, Metadata]:
    """Prune a net and export it in every format.

    Args:
        name: A registered name.
        size: Edge of its images in pixels.
        options: What the command line says.

    Returns:
        What each export says of itself.
    """
    torch.manual_seed(0)
    model = build_model(name, num_classes=10, input_size=(3, size, size)).eval()
    images = [(torch.randn(4, 3, size, size), torch.arange(4))]
    method: dict[str, Any] = {"criterion": "magnitude", "allocation": "uniform", "update": "none", "rounds": 1}
    method["floors"] = {"round_to": options.round_to}
    with tempfile.TemporaryDirectory() as temporary:
        net = Path(temporary) / "net"
        oba.prune(model, images, keep=options.keep, method=method, save=net)
        made = {}
        for kind in Format:
            oba.export_pruned(
                net,
                net.parent / kind,
                kind,
                dense=model,
                normalize=False,
                latency_batch=options.batch,
                latency_runs=options.runs,
                threads=options.threads,
            )
            made[kind] = read_record(net.parent / kind / "metadata.json", Metadata)
        return made


def main() -> None:
    """Print the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("models", nargs="+", help="names of nets, perhaps with @ and the edge of the images")
    parser.add_argument("--keep", type=float, default=0.5, help="fraction of the MACs")
    parser.add_argument("--round-to", type=int, default=1, help="channels are a multiple of this")
    parser.add_argument("--batch", type=int, default=8, help="images per timed pass")
    parser.add_argument("--runs", type=int, default=31, help="timed passes")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    options = parser.parse_args()
    figures = {}
    print("| network | MACs kept | format | difference | dense ms | pruned ms | speedup (quartiles) |")
    print("|---|---:|---|---:|---:|---:|---:|")
    for model in options.models:
        name, _, size = model.partition("@")
        for kind, made in exports(name, int(size or 32), options).items():
            speed, worst = made.latency, max(made.check.differences.values())
            assert speed is not None
            quartiles = f"{speed.speedup:.2f} ({speed.speedup_low:.2f}–{speed.speedup_high:.2f})"
            times = f"{speed.dense_median_ms:.1f} | {speed.median_ms:.1f}"
            print(f"| `{model}` | {made.macs_kept:.2f} | `{kind}` | {worst:.1e} | {times} | {quartiles} |", flush=True)
            figures.setdefault(model, {})[kind] = made.model_dump(
                mode="json", include={"check", "latency", "macs_kept"}
            )
    write_figures(options, {"exports": figures})


if __name__ == "__main__":
    main()
