"""What a folder below an experiment's is: the coordinates that its path spells."""

from __future__ import annotations

import re
from pathlib import Path

from oba.layout import Coordinates

_CHAIN = re.compile(r"(?P<method>.+)-(?P<schedule>iterative|oneshot)")


def experiment_of(path: Path) -> Path | None:
    """Return the experiment's folder that a path is, or lies in.

    Args:
        path: A folder.

    Returns:
        The nearest folder with a ``study.json``, or None.
    """
    folders = [path, *path.parents, *path.absolute().parents]
    return next((folder for folder in folders if (folder / "study.json").is_file()), None)


def coordinates_of(path: Path, experiment: Path) -> Coordinates:
    """Read the coordinates of a folder off its path.

    Args:
        path: A folder of a model, seed, chain, level or net, or something else.
        experiment: The experiment's folder.

    Returns:
        As many coordinates as the path gives: of something else, those of the folder that it lies in.
    """
    parts = path.absolute().relative_to(experiment.absolute()).parts
    model, seed, chain, level, variant, *_ = [*parts, *[""] * 5]
    at = Coordinates(model)
    if found := re.fullmatch(r"seed(\d+)", seed):
        at = Coordinates(model, int(found[1]), variant="dense" if chain == "dense" else "")
    if at.seed is not None and (found := _CHAIN.fullmatch(chain)):
        at = Coordinates(model, at.seed, found["method"], found["schedule"])
        if level.startswith("keep"):
            at = Coordinates(model, at.seed, at.method, at.schedule, level.removeprefix("keep"), variant)
    return at
