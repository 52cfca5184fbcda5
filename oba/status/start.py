"""How Snakemake is started so that a run is shown by this package."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

_PLUGINS = Path(__file__).parent / "plugin"
_OURS = ["--logger", "oba"]
_DISPLAYS = ("--logger", "--quiet", "--verbose", "--debug-dag")


def with_display(options: Sequence[str], environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Choose the display, unless the user chose another.

    Snakemake finds plugins by their names on Python's search path, which the jobs see as well; there is nothing else
    in that folder.

    Args:
        options: Snakemake's options; those of an earlier run may have the display already.
        environment: The variables of the environment.

    Returns:
        Options and environment to start Snakemake with.
    """
    options = list(options[2:] if list(options[:2]) == _OURS else options)
    if any(map(_is_display, options)):
        return options, dict(environment)
    path = [str(_PLUGINS), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    return [*_OURS, *options], {**environment, "PYTHONPATH": os.pathsep.join(dict.fromkeys(path))}


def _is_display(word: str) -> bool:
    """Tell whether an option says how a run is shown; Snakemake takes unfinished names for the whole."""
    name = word.split("=")[0]
    if word.startswith("-q"):
        return True
    return len(name) > len("--l") and any(option.startswith(name) for option in _DISPLAYS)
