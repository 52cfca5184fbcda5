"""From a net to a graph that runs without this project: torch.export's, or ONNX."""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten

import torch
from torch import Tensor, nn

from oba.errors import ExportError
from oba.export.formats import FILES, Format
from oba.files import write_atomic

INPUT, OUTPUT = "images", "logits"
"""Names of an ONNX graph's input and output."""
Run = Callable[[Tensor], Tensor]
"""What classifies a batch of images."""


class Normalizing(nn.Module):
    """A net that takes images in [0, 1] and normalises them itself.

    The normalisation is not folded into the first layer's weights: a convolution pads with zeros behind it, so that
    the folded net would see other borders.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        deviation = torch.tensor(std, dtype=torch.float64)
        shift = -torch.tensor(mean, dtype=torch.float64) / deviation
        self.register_buffer("scale", (1 / deviation).float().view(-1, 1, 1))
        self.register_buffer("shift", shift.float().view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Classify images.

        Args:
            images: Shape (N, C, H, W), in [0, 1].

        Returns:
            Logits, shape (N, classes).
        """
        return self.net(images * self.scale + self.shift)


def write_graph(kind: Format, net: nn.Module, input_size: tuple[int, int, int], folder: Path) -> dict[str, int]:
    """Export a net for batches of any size.

    Args:
        kind: ``torch-export`` or ``onnx``.
        net: The net, on the CPU, in eval mode.
        input_size: Channels, height and width of an image.
        folder: Where the file goes.

    Returns:
        What else there is to say of the file: an ONNX graph's ``opset``.
    """
    path = folder / FILES[kind]
    with _explained(kind):
        program = _traced(net, input_size)
    if kind is Format.TORCH_EXPORT:
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        write_atomic(path, lambda temporary: temporary.write_bytes(buffer.getbuffer()))
        return {}
    with _explained(kind), _quiet():
        graph = torch.onnx.export(
            program,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: "batch"},),
            dynamo=True,
            verbose=False,
        )
    assert graph is not None, "it is None where a file is given"
    graph.save(path)  # weights beyond 2 GB go into a file beside it
    return {"opset": graph.model.opset_imports[""]}


def open_graph(kind: Format, folder: Path, threads: int) -> Run:
    """Open an exported net in its own runtime.

    Args:
        kind: ``torch-export`` or ``onnx``.
        folder: Where :func:`write_graph` wrote.
        threads: CPU threads of an ONNX session; torch has its own setting.

    Returns:
        What runs it.
    """
    path = folder / FILES[kind]
    if kind is Format.TORCH_EXPORT:
        return torch.export.load(path).module()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that spin while they wait would slow down the session that is timed in turns with this one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])

    return run


def _traced(net: nn.Module, input_size: tuple[int, int, int]) -> torch.export.ExportedProgram:
    """Trace a net; what the trace says of this machine's files is left out."""
    # Which attention kernel runs, and so the layout of its outputs, depends on whether gradients are needed: a graph
    # must not be traced without them and run with them.
    net = copy.deepcopy(net).requires_grad_(False)
    # Two images: a dimension of size 1 may be taken for one that is broadcast.
    example = torch.zeros(2, *input_size)
    with torch.no_grad():
        batch = torch.export.Dim("batch", min=1)
        program = torch.export.export(net, (example,), dynamic_shapes=({0: batch},))
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return program


@contextmanager
def _explained(kind: Format) -> Iterator[None]:
    """Say in one line why a net cannot be exported."""
    try:
        yield
    except Exception as error:  # whatever a library raises: the net has a construct that it does not know
        reason = error.__cause__ or error  # the ONNX exporter wraps what was wrong in advice on reporting it
        told = shorten(str(reason), 300, placeholder=" …")
        raise ExportError(f"the net cannot be exported as {kind} ({type(reason).__name__}: {told})") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the ONNX exporter's remarks about optimisations that it skipped from the terminal."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
