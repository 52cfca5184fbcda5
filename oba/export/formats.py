"""The formats that a net can be exported in; importing this costs no torch."""

from __future__ import annotations

from enum import StrEnum
from importlib.util import find_spec

from oba.errors import ExportError


class Format(StrEnum):
    """What an exported net can be."""

    TORCH_EXPORT = "torch-export"
    ONNX = "onnx"
    STATE_DICT = "state-dict"


FILES = {
    Format.TORCH_EXPORT: "model.pt2",
    Format.ONNX: "model.onnx",
    Format.STATE_DICT: "model.safetensors",
}
"""The file that holds the net, by format."""
METADATA, CARD = "metadata.json", "README.md"
"""What lies beside it."""

NEEDED = {Format.ONNX: ("onnx", "onnxscript", "onnxruntime")}
"""Packages of the extra ``export``, by the format that needs them."""


def check_installed(kind: Format) -> None:
    """Refuse a format whose packages are not there.

    Args:
        kind: The format.

    Raises:
        ExportError: If a package is missing.
    """
    needed = NEEDED.get(kind, ())
    missing = [package for package in needed if find_spec(package) is None]
    if missing:
        raise ExportError(
            f"--format {kind}: needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
            f"installed; install with: pip install {' '.join(needed)}"
        )
