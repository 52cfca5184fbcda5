"""The page's one file, from its parts: template, styles, scripts, plotly's script and the values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Any

from oba.errors import FileError
from oba.report.page.payload import as_script

_ASSETS = Path(__file__).parent / "assets"
_SCRIPTS = ("base.js", "table.js", "tables.js", "tradeoff.js", "layers.js", "training.js", "classes.js", "cost.js")
_SCRIPTS += ("origin.js", "main.js")


def render(values: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        values: What :func:`oba.report.page.payload.payload` gathered.

    Returns:
        HTML that needs no other file; the same for the same values.
    """
    title = escape(str(values["experiment"]))
    # One pass: what stands in the values is never taken for a place of the template.
    return Template(_asset("page.html")).substitute(
        title=title,
        styles=_asset("page.css"),
        plotly=_plotly().read_text(encoding="utf-8"),
        data=as_script(values),
        scripts="\n".join(_asset(name) for name in _SCRIPTS),
    )


@cache
def assets_digest() -> str:
    """Return a digest of what the page is made of besides code and values: no code digest covers it.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256(version("plotly").encode())
    for path in sorted(_ASSETS.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _plotly() -> Path:
    """Find plotly's script; importing the package would take longer than drawing the page."""
    spec = find_spec("plotly")
    path = Path(str(spec.origin)).parent / "package_data" / "plotly.min.js" if spec and spec.origin else None
    if path is None or not path.exists():
        raise FileError("report: plotly's script is missing; install the package plotly, as pyproject.toml says")
    return path
