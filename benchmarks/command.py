"""What the benchmarks' command lines share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path


def argument_parser(text: str | None) -> argparse.ArgumentParser:
    """Return a parser that shows a benchmark's own text and knows ``--json``.

    Args:
        text: The module's docstring.

    Returns:
        The parser, for more arguments.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    return parser


def write_figures(options: argparse.Namespace, figures: Mapping[str, object]) -> None:
    """Write figures with the settings that they hold for, if a file is named.

    Args:
        options: What :func:`argument_parser` read.
        figures: Plain values.
    """
    if options.json:
        settings = {key: str(value) for key, value in vars(options).items() if key != "json"}
        options.json.write_text(json.dumps({"settings": settings, "torch": version("torch"), **figures}, indent=1))
