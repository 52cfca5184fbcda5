"""What a sensitivity leaves and prints: table, picture, the groups at both ends; and its progress."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from oba.analysis.stored import StoredNet
from oba.errors import FileError
from oba.files import write_atomic, write_text
from oba.report.frames import records, where
from oba.report.sensitivity import draw_sensitivity, most_sensitive
from oba.report.sheet import save_picture
from oba.report.style import styled

_SHOWN = 5
"""Groups that are printed at each end of the order."""


def require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written, before the work.

    Args:
        folder: The folder; it need not be there.

    Raises:
        FileError: If it is a file, or there is no permission.
    """
    there = next(path for path in [folder.absolute(), *folder.absolute().parents] if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise FileError(f"{folder}: cannot be written, because {there} is no folder of yours; choose another --output")


@contextmanager
def bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress on standard error, if that is a terminal.

    Args:
        label: What is measured.

    Yields:
        What is to be told how many of all entries are there.
    """
    console = Console(file=sys.stderr)
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def write(frame: pd.DataFrame, folder: Path, net: StoredNet, criterion: str) -> None:
    """Write table and picture, and print the groups that lose most and least.

    Args:
        frame: What :func:`oba.sensitivity` returned.
        folder: Where the files go.
        net: What was measured.
        criterion: By which ranking.
    """
    first = records(frame)[0]
    top1, images = 100 * first.val_top1 + first.drop_points, len(net.bundle.val)
    of = f"{top1:.1f} % of {images} validation images (one: {100 / images:.2g})"
    title = f"{net.layout.experiment}, {net.at.model}, seed {net.at.seed}, {net.name}: each group shrunk alone"
    subtitle = f"Points of top-1 lost, of {of}.\nRanked by {criterion}; norm statistics measured again on "
    subtitle += f"{len(net.bundle.calibration)} calibration images; nothing trained."
    write_text(folder / "sensitivity.csv", frame.to_csv(index=False, lineterminator="\n"))
    with styled():
        figure = draw_sensitivity(frame, title, subtitle)
        write_atomic(folder / "sensitivity.png", lambda path: save_picture(figure, path))
    console = Console(highlight=False)
    console.print(Text(f"Points of top-1 lost, of {of}", style="bold"))
    console.print(table(frame))
    console.print(Text(f"{folder / 'sensitivity.csv'}\n{folder / 'sensitivity.png'}"), soft_wrap=True)


def table(frame: pd.DataFrame) -> Table:
    """Return the groups that lose most and least, as a table for 80 columns.

    Args:
        frame: What :func:`oba.sensitivity` returned.

    Returns:
        The most sensitive group first; of many, those in the middle are left out. The MACs are those that the smallest
        fraction saves, of the whole net's.
    """
    levels = [float(level) for level in frame.keep.unique()]
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    shown.add_column("group", overflow="fold")
    shown.add_column("of", justify="right")
    for index, level in enumerate(levels):
        shown.add_column(f"{level:g}" if index else f"keep {level:g}", justify="right", no_wrap=True)
    shown.add_column("MACs saved", justify="right", no_wrap=True)
    order = most_sensitive(frame)
    cut = len(order) > 2 * _SHOWN + 1
    for name in [*order[:_SHOWN], "", *order[-_SHOWN:]] if cut else order:
        rows = records(where(frame, frame.group == name))
        if not rows:
            shown.add_row(f"… {len(order) - 2 * _SHOWN} more", *[""] * (len(levels) + 2))
            continue
        drops = [f"{row.drop_points:z.1f}".replace("-", "\N{MINUS SIGN}") for row in rows]
        shown.add_row(name, f"{rows[0].structures}", *drops, f"{100 * (1 - rows[-1].macs_kept):.1f} %")
    return shown
