"""What int8 is worth after pruning, in ONNX Runtime and in PyTorch: the table of docs/questions.md.

Run ``python benchmarks/quantizing.py``. The net is that of docs/own-network.md, trained on scikit-learn's digits,
pruned and not fine-tuned; all variants are timed in turns, on one thread.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from command import argument_parser, write_figures
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

import oba

Run = Callable[[Tensor], Tensor]
Batches = list[tuple[Tensor, Tensor]]
METHOD = {"criterion": "oba", "allocation": "uniform", "update": "least-squares"}


class _Calibration(CalibrationDataReader):
    """Images as ONNX Runtime asks for them."""

    def __init__(self, batches: Batches) -> None:
        self._batches: Iterator[dict[str, Any]] = iter([{"images": inputs.numpy()} for inputs, _ in batches])

    def get_next(self) -> dict[str, Any]:
        return next(self._batches, {})


def trained() -> tuple[nn.Module, Batches, Batches]:
    """Return the net of docs/own-network.md, batches of its training images and of its test images."""
    torch.manual_seed(0)
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1)  # pyright: ignore[reportAttributeAccessIssue]
    x, y = (x - x.mean()) / x.std(), torch.tensor(digits.target)  # pyright: ignore[reportAttributeAccessIssue]
    order = torch.randperm(len(x))
    train, test = order[:1347], order[1347:]
    layers: list[nn.Module] = []
    for inputs, outputs, pooled in ((1, 32, False), (32, 32, True), (32, 64, False)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pooled else []
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(10):
        for batch in train[torch.randperm(len(train))].split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    images = [(x[batch], y[batch]) for batch in train[:512].split(64)]
    return model.eval(), images, [(x[batch], y[batch]) for batch in test.split(32)]


def in_onnx(net: nn.Module, dense: nn.Module, images: Batches, folder: Path) -> dict[str, tuple[Run, Path]]:
    """Export a net that was saved in the folder, and quantise the export."""
    oba.export_pruned(folder / "pruned", folder / "onnx", "onnx", dense=dense, normalize=False, latency_runs=0)
    plain, prepared, small = folder / "onnx/model.onnx", folder / "prepared.onnx", folder / "int8.onnx"
    quant_pre_process(str(plain), str(prepared))
    quantize_static(str(prepared), str(small), _Calibration(images))
    found: dict[str, tuple[Run, Path]] = {}
    for name, path in (("ONNX, float32", plain), ("ONNX, int8", small)):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options)
        found[name] = lambda x, s=session: torch.from_numpy(s.run(None, {"images": x.numpy()})[0]), path
    return found


def in_torch(net: nn.Module, images: Batches, folder: Path) -> dict[str, tuple[Run, Path]]:
    """Quantise a net with PyTorch's own means."""
    prepared = prepare_fx(copy.deepcopy(net), get_default_qconfig_mapping("x86"), (images[0][0],))
    for inputs, _ in images:
        prepared(inputs)
    found: dict[str, tuple[Run, Path]] = {}
    for name, module in (("PyTorch, float32", net), ("PyTorch, int8", convert_fx(prepared))):
        path = folder / f"{name[-4:]}.pt"
        torch.save(module.state_dict(), path)
        found[name] = module, path
    return found


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__)
    parser.add_argument("--keep", type=float, default=0.5, help="fraction of the MACs")
    parser.add_argument("--rounds", type=int, default=300, help="timed passes of each variant")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for message in ("torch.ao.quantization is deprecated", "torch.quantize_per_tensor"):
        warnings.filterwarnings("ignore", message)
    dense, images, test = trained()
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        folder = Path(name)
        with torch.enable_grad():
            small = oba.prune(dense, images, keep=options.keep, method=METHOD, save=folder / "pruned").eval()
        variants = in_onnx(small, dense, images, folder) | in_torch(small, images, folder)
        times: dict[str, list[float]] = {variant: [] for variant in variants}
        for turn in range(options.rounds + 10):
            for variant, (run, _) in variants.items():
                started = time.perf_counter()
                run(test[0][0])
                if turn >= 10:
                    times[variant].append(1000 * (time.perf_counter() - started))
        for variant, (run, path) in variants.items():
            hits = sum(int((run(x).argmax(1) == y).sum()) for x, y in test)
            top1 = 100 * hits / sum(len(y) for _, y in test)
            kilobytes, milliseconds = path.stat().st_size / 1000, statistics.median(times[variant])
            figures[variant] = {"top1_percent": top1, "kilobytes": kilobytes, "milliseconds": milliseconds}
            print(f"{variant:17} {top1:5.1f} % {kilobytes:7.1f} kB {milliseconds:6.2f} ms", flush=True)
    write_figures(options, {"variants": figures})


if __name__ == "__main__":
    main()
