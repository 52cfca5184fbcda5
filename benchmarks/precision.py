"""What float32 costs scores: the relative error of each layer's scores against float64.

Gradients jump where a ReLU or a maximum changes its branch, and rounding moves a few values across: the two precisions
then differentiate different pieces of the network. Therefore the error is given twice: as it is, and with the branches
of the float32 pass imposed on the float64 pass, which leaves the error of the arithmetic alone.

Run ``python benchmarks/precision.py resnet32x4 --batch 64 --size 32``.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from command import argument_parser, write_figures
from torch import Tensor, nn

from oba.importance import parameter_scores
from oba.models.build import build_model

ALLOWED = 1e-3
"""Relative error that is promised."""


class BranchReLU(nn.Module):
    """A ReLU that remembers its branches, or repeats remembered ones."""

    def __init__(self) -> None:
        """Start remembering."""
        super().__init__()
        self.branches: list[Tensor] = []
        self.repeats = False
        self.flips = 0
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        """Apply the ReLU, or the branches of the call of the same number."""
        if not self.repeats:
            self.branches.append(x.detach() > 0)
            return F.relu(x)
        branch = self.branches[self.calls % len(self.branches)]
        self.calls += 1
        self.flips += int(((x.detach() > 0) != branch).sum())
        return x * branch


class BranchMaxPool(nn.Module):
    """A max pooling that remembers the places of its maxima, or repeats remembered ones."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        """Take the settings of a pooling.

        Args:
            pool: The pooling.
        """
        super().__init__()
        self.pool = pool
        self.branches: list[Tensor] = []
        self.repeats = False
        self.flips = 0
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        """Pool, or take the remembered places."""
        pool: Any = self.pool
        _, places = F.max_pool2d_with_indices(x.detach(), pool.kernel_size, pool.stride, pool.padding, pool.dilation)
        if not self.repeats:
            self.branches.append(places)
            return pool(x)
        branch = self.branches[self.calls % len(self.branches)]
        self.calls += 1
        self.flips += int((places != branch).sum())
        return x.flatten(2).gather(2, branch.flatten(2)).view_as(branch)


def with_branches(model: nn.Module) -> list[BranchReLU | BranchMaxPool]:
    """Replace a model's ReLU and max-pooling modules in place.

    Args:
        model: The model.

    Returns:
        The modules that took their place.
    """
    placed: list[BranchReLU | BranchMaxPool] = []
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, (nn.ReLU, nn.MaxPool2d)):
                new = BranchReLU() if isinstance(child, nn.ReLU) else BranchMaxPool(child)
                setattr(parent, name, new)
                placed.append(new)
    return placed


def error(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """Compare scores layer by layer.

    Args:
        found: Scores in float32.
        expected: Scores in float64.

    Returns:
        For each weight the norm of the difference divided by the norm of what was expected.
    """
    return {
        name: ((found[name].double() - scores).norm() / scores.norm()).item()
        for name, scores in expected.items()
        if scores.dim() > 1
    }


def main() -> None:
    """Measure one network and print a table."""
    parser = argument_parser(__doc__)
    parser.add_argument("model", help="resnet20, resnet32x4, vgg19, timm/<name> or torchvision/<name>")
    parser.add_argument("--batch", type=int, default=64, help="images")
    parser.add_argument("--size", type=int, default=32, help="edge of the images in pixels")
    parser.add_argument("--norm", choices=("eval", "train"), default="eval", help="statistics of the norm layers")
    parser.add_argument("--criteria", nargs="+", default=["taylor", "oba", "oba-exact"])
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    edges = (3, options.size, options.size)
    single = build_model(options.model, num_classes=10, input_size=edges)
    with torch.no_grad():
        for _ in range(20):  # norm statistics that fit the weights
            single.train()(torch.randn(min(options.batch, 16), *edges))
    double = copy.deepcopy(single).double()
    inputs, targets = torch.randn(options.batch, *edges), torch.randint(10, (options.batch,))
    figures = {}
    print(f"{options.model}, {options.batch} images of {options.size}², norm {options.norm}: worst layer, median layer")
    for criterion in options.criteria:
        plain = parameter_scores(double, [(inputs.double(), targets)], criterion, norm=options.norm)
        model = copy.deepcopy(single)
        recorded = with_branches(model)
        scores = parameter_scores(model, [(inputs, targets)], criterion, norm=options.norm)
        repeated = copy.deepcopy(double)
        imposed = with_branches(repeated)
        for source, sink in zip(recorded, imposed, strict=True):
            sink.branches, sink.repeats = source.branches, True
        same = parameter_scores(repeated, [(inputs.double(), targets)], criterion, norm=options.norm)
        flips, raw, arithmetic = sum(b.flips for b in imposed), error(scores, plain), error(scores, same)
        figures[criterion] = {"flips": flips, "raw": raw, "same branches": arithmetic}
        for label, errors in (("as it is", raw), ("same branches", arithmetic)):
            ordered = sorted(errors.values())
            worst = max(errors, key=lambda name: errors[name])
            print(f"{criterion:10} {label:14} {ordered[-1]:.1e} ({worst})  {ordered[len(ordered) // 2]:.1e}")
        noisy = [name for name, value in arithmetic.items() if value > ALLOWED]
        print(f"{criterion:10} {flips} values on another branch; above {ALLOWED:g}: {', '.join(noisy) or 'none'}")
    write_figures(options, figures)


if __name__ == "__main__":
    main()
