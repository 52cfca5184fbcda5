"""Parts of pages that are written while the pages are built, so that they are never out of date.

A page says ``<!-- here: study keys -->`` where such a part belongs; on GitHub nothing is shown there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import commands, exit_codes
from study_keys import study_keys

import oba

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_FIRST = ["prune", "find_groups", "score", "load_pruned"]
_ROOT = Path(__file__).parents[2]


def _paper() -> str:
    """Return what stands beside the studies of the paper, without its title, as a page of this folder."""
    text = (_ROOT / "config/paper/README.md").read_text(encoding="utf-8")
    return text.partition("\n")[2].replace("](../../docs/", "](")


def _functions() -> str:
    """Return the directives that describe all public functions."""
    public = (name for name in oba.__all__ if not name.startswith("_"))
    names = sorted(public, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    return "\n\n".join(["```{eval-rst}", *(f".. autofunction:: oba.{name}" for name in names), "```"])


_PARTS = {
    "functions": _functions,
    "study keys": study_keys,
    "commands": commands,
    "exit codes": exit_codes,
    "paper": _paper,
}


def _fill(app: Sphinx, page: str, content: list[str]) -> None:
    for name, write in _PARTS.items():
        marker = f"<!-- here: {name} -->"
        if marker in content[0]:
            content[0] = content[0].replace(marker, write())
            app.env.note_reread()  # what is written depends on the code, not on the page


def setup(app: Sphinx) -> dict[str, Any]:
    """Fill in pages when they are read.

    Args:
        app: The build.

    Returns:
        What Sphinx asks of an extension.
    """
    app.connect("source-read", _fill)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
