"""How an exported net is loaded, as the model card shows it."""

from __future__ import annotations

from oba.export.formats import Format
from oba.export.metadata import Metadata

_TORCH_EXPORT = """\
Needs PyTorch {torch} or later, and nothing else:

```python
import torch

net = torch.export.load("{file}").module()
images = torch.rand(1, {size})  # {given}
logits = net(images)
```"""
_ONNX = """\
Needs [ONNX Runtime](https://onnxruntime.ai), or any other runtime for ONNX's opset {opset}:

```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
images = np.random.rand(1, {size}).astype(np.float32)  # {given}
[logits] = session.run(["logits"], {{"images": images}})
```"""
_STATE_DICT = """\
Needs oba, which builds the dense architecture, cuts it as `plan.json` says and \
loads `{file}`:

```python
import oba
import torch

{net}
images = torch.rand(1, {size}){normalized}
logits = net(images)
```"""


def snippet(metadata: Metadata) -> str:
    """Return how the net is loaded and run, in a few lines of Python.

    Args:
        metadata: What the net is.

    Returns:
        Markdown.
    """
    given = {
        "inside": "values in [0, 1]",
        "outside": "minus the mean, divided by the standard deviation",
        "unknown": "normalised as in training",
    }[metadata.input.normalization]
    size = ", ".join(map(str, metadata.input.size))
    text = {Format.TORCH_EXPORT: _TORCH_EXPORT, Format.ONNX: _ONNX, Format.STATE_DICT: _STATE_DICT}[
        Format(metadata.format)
    ]
    return text.format(
        torch=metadata.exported.versions["torch"],
        opset=metadata.opset,
        file=metadata.file,
        size=size,
        given=given,
        net=_load(metadata),
        normalized=_normalized(metadata) or f"  # {given}",
    )


def _load(metadata: Metadata) -> str:
    """Return the line that loads a state dict."""
    if metadata.known_by_name:
        return 'net = oba.load_pruned(".")'
    return f'net = oba.load_pruned(".", model)  # model: the dense {metadata.architecture}, with any weights'


def _normalized(metadata: Metadata) -> str:
    """Return the lines that normalise images for a net that does not."""
    if metadata.input.normalization != "outside":
        return ""
    mean, std = (f"torch.tensor({values}).view(-1, 1, 1)" for values in (metadata.input.mean, metadata.input.std))
    return f"  # values in [0, 1]\nimages = (images - {mean}) / {std}"
