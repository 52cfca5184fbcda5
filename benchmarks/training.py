"""Images per second of training: this project's loop, beside a plain loop and beside the bare step of the net.

All three train the same net by SGD on random 32x32 colour images that lie on the device, padded, cropped and mirrored,
in turns; medians over the rounds count. The plain loop changes a whole epoch's images at once, as cifar10-airbench
does. The bare step learns one batch again and again: what no loop can exceed.

Run ``python benchmarks/training.py resnet32x4 --device cuda --precision bf16``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from command import argument_parser, write_figures
from torch import Tensor, nn

from oba.data.bundle import ArrayPixels, Split
from oba.datasets import AugmentConfig
from oba.machine import RuntimeConfig
from oba.models import build_model
from oba.recipes import TrainConfig
from oba.seeds import derive_seed
from oba.training.device import keep_freed_memory, make_deterministic
from oba.training.evaluation import autocast
from oba.training.learner import Learner

EDGE, PADDING, CLASSES = 32, 4, 10
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


def plain_epoch(images: Tensor, labels: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of one epoch, all images of which were padded, cropped and mirrored at once.

    Args:
        images: (N, C, H, W) float32, normalised.
        labels: (N,) int64.
        batch_size: Images per batch.

    Yields:
        Inputs and targets.
    """
    padded = F.pad(images, (PADDING,) * 4, mode="reflect")
    changed = torch.empty_like(images)
    rows, columns = torch.randint(0, 2 * PADDING + 1, (2, len(images)), device=images.device)
    for row in range(2 * PADDING + 1):
        for column in range(2 * PADDING + 1):
            chosen = (rows == row) & (columns == column)
            changed[chosen] = padded[chosen, :, row : row + EDGE, column : column + EDGE]
    flips = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    changed = torch.where(flips, changed.flip(-1), changed)
    for part in torch.randperm(len(images), device=images.device).split(batch_size):
        yield changed[part], labels[part]


class Sides:
    """The three ways to train, each with a net of its own.

    Attributes:
        epochs: By the side's name, a function that trains for one epoch and returns the number of images.
    """

    def __init__(self, model: str, images: int, batch_size: int, runtime: RuntimeConfig, device: torch.device) -> None:
        """Make nets and images.

        Args:
            model: The net's name.
            images: Images per epoch, a multiple of the batch size.
            batch_size: Images per step.
            runtime: Precision, and whether passes are compiled.
            device: Where to train.
        """
        draw = np.random.default_rng(0)
        pixels = draw.integers(0, 256, (images, EDGE, EDGE, 3), dtype=np.uint8)
        self._labels = torch.from_numpy(draw.integers(0, CLASSES, images)).to(device)
        planes = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).contiguous()
        self._normal = (planes.float() / 255 - 0.5) / 0.25
        augment = AugmentConfig(crop="pad", padding=PADDING, flip=True)
        self._split = Split(
            ArrayPixels(pixels, device), self._labels, list(range(images)), mean=MEAN, std=STD, augment=augment
        )
        self._config = TrainConfig(epochs=100, batch_size=batch_size, lr=0.01, schedule="step")
        self._runtime, self._device, self._batch = runtime, device, batch_size
        self._learner = Learner(self._net(model), self._config, runtime, device=device, classes=CLASSES)
        self._learner.model.train()
        self._plain, self._bare = (self._stepper(self._net(model)) for _ in range(2))
        self._done = 0
        self.epochs: dict[str, Callable[[], int]] = {
            "oba": self._oba,
            "plain loop": self._loop,
            "bare step": self._step,
        }

    def _net(self, model: str) -> nn.Module:
        net = build_model(model, num_classes=CLASSES, input_size=(3, EDGE, EDGE)).to(self._device)
        return net.to(memory_format=torch.channels_last) if self._device.type == "cuda" else net  # pyright: ignore[reportCallIssue]

    def _stepper(self, net: nn.Module) -> Callable[[Tensor, Tensor], None]:
        """Return a function that learns one batch, and no more."""
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        forward = torch.compile(net) if self._runtime.compile else net
        net.train()

        def step(inputs: Tensor, targets: Tensor) -> None:
            with autocast(self._device, self._runtime.precision):
                logits = forward(inputs)
            optimizer.zero_grad()
            F.cross_entropy(logits.float(), targets).backward()
            optimizer.step()

        return step

    def _oba(self) -> int:
        seed = derive_seed(self._done)
        batches = self._split.batches(self._batch, shuffle_seed=seed, augment=True)
        waiting = []
        for number, (inputs, targets) in enumerate(batches):
            loss, _ = self._learner.step(
                inputs, targets, whole=len(targets), epochs_done=self._done, number=number + 1, seed=seed
            )
            waiting.append(loss)
        torch.stack(waiting).tolist()
        self._done += 1
        return len(self._split)

    def _loop(self) -> int:
        for inputs, targets in plain_epoch(self._normal, self._labels, self._batch):
            self._plain(inputs, targets)
        return len(self._labels)

    def _step(self) -> int:
        inputs, targets = self._normal[: self._batch], self._labels[: self._batch]
        for _ in range(len(self._labels) // self._batch):
            self._bare(inputs, targets)
        return len(self._labels)


def rate(epoch: Callable[[], int], device: torch.device) -> float:
    """Return the images per second of one epoch."""
    start = time.perf_counter()
    count = epoch()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return count / (time.perf_counter() - start)


def main() -> None:
    """Measure the three sides in turns and print a table."""
    parser = argument_parser(__doc__)
    parser.add_argument("model", nargs="?", default="resnet8")
    parser.add_argument("--images", type=int, default=4096, help="images per epoch")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5, help="timed epochs of each side")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--compile", action="store_true", help="compile the passes of all sides")
    parser.add_argument("--fast", action="store_true", help="the fastest kernels in the place of deterministic ones")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    keep_freed_memory()
    device = torch.device(options.device)
    make_deterministic(device, not options.fast)
    images = options.images // options.batch_size * options.batch_size
    runtime = RuntimeConfig(precision=options.precision, compile=options.compile)
    sides = Sides(options.model, images, options.batch_size, runtime, device)
    rates: dict[str, list[float]] = {name: [] for name in sides.epochs}
    for number in range(options.rounds + 1):
        for name, epoch in sides.epochs.items():
            measured = rate(epoch, device)
            if number:  # the first epoch chooses kernels and compiles
                rates[name].append(measured)

    print(f"{options.model} on {torch.cuda.get_device_name() if device.type == 'cuda' else 'cpu'}")
    print(f"{'side':<12}{'images/s':>12}{'slowest':>12}{'fastest':>12}{'of bare step':>14}")
    ratios = {}
    for name, values in rates.items():
        ratios[name] = statistics.median(a / b for a, b in zip(values, rates["bare step"], strict=True))
        print(
            f"{name:<12}{statistics.median(values):>12,.0f}{min(values):>12,.0f}{max(values):>12,.0f}"
            f"{ratios[name]:>14.2f}"
        )
    write_figures(options, {"of_bare_step": ratios, "rates": rates})


if __name__ == "__main__":
    main()
