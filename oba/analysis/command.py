"""``oba sensitivity``: the command."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Device(StrEnum):
    """On what the net runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def sensitivity(
    net: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a net of an experiment, such as .../dense.")],
    criterion: Annotated[
        str | None, typer.Option(help="Who goes first in a group; the study's first method's if not given.")
    ] = None,
    keep: Annotated[
        list[float] | None,
        typer.Option(help="Fraction of a group that stays; may be repeated. 0.8, 0.6, 0.4, 0.2 if not given."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the table and the picture; one named sensitivity if not given.")
    ] = None,
    device: Annotated[Device | None, typer.Option(help="The study's if not given.")] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; the study's of pruning if not given.", min=1)
    ] = None,
) -> None:
    """Measure what a net loses when one group of channels or heads shrinks.

    Every group in turn is cut down to fractions of its structures, by the
    criterion's ranking; norm statistics are measured again on the calibration
    images, and the net is measured on the validation images. Test images are
    never read, nothing is trained, and the net stays as it is. So drops are what
    fine-tuning would start from, and those of several groups do not add up.

    Left are sensitivity.csv and sensitivity.png in
    <experiment>/<model>/seed<n>/sensitivity/<net>-<criterion>/, which no job of
    the workflow reads or removes. In Python: oba.sensitivity(model, images,
    val).
    """
    from oba.analysis.sensitivity import KEEP
    from oba.analysis.sensitivity import sensitivity as measured
    from oba.analysis.showing import bar, require_writable, write
    from oba.analysis.stored import read_net

    stored = read_net(net, device and device.value, threads)
    by = stored.criterion(criterion)
    folder = output or stored.layout.dense(stored.at).with_name("sensitivity") / f"{stored.name}-{by.name}"
    require_writable(folder)
    with bar(f"sensitivity {stored.name}") as tell:
        frame = measured(
            stored.model,
            stored.calibration,
            stored.val,
            keep=keep or KEEP,
            criterion=by,
            groups=stored.groups,
            tell=tell,
        )
    write(frame, folder, stored, by.name)
