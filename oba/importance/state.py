"""Leave a model as it was found, whatever happens while it is scored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from oba.errors import ConfigError

NORMS = ("eval", "train")
"""Which statistics batch and instance norm use while scoring: the frozen ones, or the batch's."""


@contextmanager
def left_as_found(model: nn.Module, norm: str) -> Iterator[None]:
    """Put a model into the mode for scoring; restore modes, buffers and random state at the end.

    Everything is in evaluation mode; with ``norm="train"`` batch and instance norms alone use the statistics of the
    batch, without a lasting change of their running statistics. Gradients are enabled, autocast is not, and no
    ``.grad`` is used.

    Args:
        model: The model.
        norm: ``"eval"`` or ``"train"``.

    Yields:
        Nothing.

    Raises:
        ConfigError: If ``norm`` is neither of the two.
    """
    if norm not in NORMS:
        raise ConfigError(f"norm: {norm!r} is unknown; allowed: {', '.join(NORMS)}")
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False)
    ]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            # Half precision of the caller would not do for second derivatives.
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(_full_precision())
        stack.enter_context(torch.random.fork_rng(devices=sorted(d.index for d in devices)))
        stack.enter_context(torch.enable_grad())
        try:
            for module, _ in modes:
                # The attribute, because some models override train() to keep parts of themselves in evaluation mode.
                module.training = norm == "train" and isinstance(module, _NormBase)
            yield
        finally:
            for module, training in modes:
                module.training = training
            with torch.no_grad():
                for module, name, buffer, content in buffers:
                    module._buffers[name] = buffer
                    if not torch.equal(buffer, content):
                        buffer.copy_(content)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Keep TF32 off: its ten bits are fewer than scores are promised to have."""
    cudnn, matmul = torch.backends.cudnn, torch.get_float32_matmul_precision()
    flags = {"enabled": cudnn.enabled, "benchmark": cudnn.benchmark, "deterministic": cudnn.deterministic}
    try:
        torch.set_float32_matmul_precision("highest")
        with cudnn.flags(**flags, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
