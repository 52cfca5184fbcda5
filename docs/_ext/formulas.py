"""Formulas as SVG drawn by Matplotlib: they need no script, no network and no LaTeX, and follow the page's colour."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from docutils import nodes
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_SIZE = 100
_FONT = FontProperties(family="STIXGeneral", math_fontfamily="stix", size=_SIZE)
_PARSER = MathTextParser("path")
_LETTERS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}
_LOG = logging.getLogger(__name__)


def svg(formula: str) -> str:
    """Draw a formula.

    Args:
        formula: TeX, of which Matplotlib knows a part.

    Returns:
        An ``<svg>`` element in units of the surrounding font, standing on the text's base line; ``ValueError`` for
        what Matplotlib cannot read.
    """
    text = f"${' '.join(formula.split())}$"
    width = _PARSER.parse(text, dpi=72, prop=_FONT)[0]
    path = TextPath((0, 0), text, prop=_FONT)
    outline = []
    for points, code in path.iter_segments(simplify=False):
        outline.append(_LETTERS[code] + ("" if code == Path.CLOSEPOLY else " ".join(f"{p:.1f}" for p in points)))
    # Only the ink counts: what the parser calls height has room above it, which would drive lines apart.
    extents = path.get_extents()
    top, bottom = extents.ymax + 3, max(-extents.ymin, 0) + 3
    size = f"width:{width / _SIZE:.3f}em;height:{(top + bottom) / _SIZE:.3f}em;vertical-align:{-bottom / _SIZE:.3f}em"
    box = f"0 {-top:.1f} {width:.1f} {top + bottom:.1f}"
    label = html.escape(formula, quote=True)
    return (
        f'<svg class="formula" role="img" aria-label="{label}" style="{size}" viewBox="{box}">'
        f'<path transform="scale(1,-1)" fill="currentColor" d="{"".join(outline)}"/></svg>'
    )


def _drawn(node: nodes.Element) -> str:
    try:
        return svg(node.astext())
    except ValueError as error:
        _LOG.warning("formula %r: %s", node.astext(), str(error).strip().splitlines()[-1], location=node)
        return html.escape(node.astext())


def _inline(writer: Any, node: nodes.Element) -> None:
    writer.body.append(_drawn(node))
    raise nodes.SkipNode


def _display(writer: Any, node: nodes.Element) -> None:
    writer.body.append(f'<div class="formula-block">{_drawn(node)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Offer the renderer under the name ``formulas``.

    Args:
        app: The build.

    Returns:
        What Sphinx asks of an extension.
    """
    app.add_html_math_renderer("formulas", (_inline, None), (_display, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
