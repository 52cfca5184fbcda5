"""Where a run is shown: a live part below the lines of a terminal, or nothing but lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text


class Lines:
    """Lines, for a pipe, a file, or a terminal without a cursor."""

    def __init__(self, stream: TextIO) -> None:
        """Write to a stream."""
        self._stream = stream

    def say(self, text: str, style: str = "") -> None:
        """Write lines at once."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def show(self, draw: Callable[[], RenderableType]) -> None:
        """Show nothing that changes."""

    def hide(self) -> None:
        """Have nothing to take away."""


class Terminal(Lines):
    """A terminal, whose last lines change."""

    def __init__(self, stream: TextIO) -> None:
        """Write to a terminal."""
        super().__init__(stream)
        self.console = Console(file=stream, highlight=False)
        self._live: Live | None = None

    def say(self, text: str, style: str = "") -> None:
        """Write lines above what changes."""
        self.console.print(Text(text, style), soft_wrap=True)

    def show(self, draw: Callable[[], RenderableType]) -> None:
        """Show what changes, drawn again once a second."""
        if self._live is None:
            options = {"redirect_stdout": False, "redirect_stderr": False, "vertical_overflow": "crop"}
            self._live = Live(
                console=self.console, get_renderable=draw, refresh_per_second=1, transient=True, **options
            )
            self._live.start()
            self.console.show_cursor(True)  # whoever is killed cannot bring it back

    def hide(self) -> None:
        """Take away what changes."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()


def screen_for(stream: TextIO, *, plain: bool) -> Lines:
    """Return how to show a run on a stream.

    Args:
        stream: Standard error, or output.
        plain: Whether the user wants no colours.

    Returns:
        The screen.
    """
    fit = stream.isatty() and not plain and os.environ.get("TERM", "dumb") != "dumb"
    return Terminal(stream) if fit else Lines(stream)


def standard(*, output: bool) -> TextIO:
    """Return standard output, or else standard error."""
    return sys.stdout if output else sys.stderr
