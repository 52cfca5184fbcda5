"""What ``structures.ignore`` names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch import nn

from oba.errors import ConfigError


def ignored_names(model: nn.Module, patterns: Iterable[str]) -> set[str]:
    """Find the layers that patterns match.

    Args:
        model: A net.
        patterns: Names of modules or parameters, or patterns such as ``layer3.*``.

    Returns:
        Names of the modules and parameters that match, and of all that is inside them.

    Raises:
        ConfigError: If a pattern matches nothing.
    """
    names = [n for n, _ in (*model.named_modules(), *model.named_parameters()) if n]
    matched: set[str] = set()
    for pattern in patterns:
        hits = [n for n in names if fnmatchcase(n, pattern)]
        if not hits:
            near = difflib.get_close_matches(pattern, names, n=3) or names[:3]
            raise ConfigError(
                f"structures.ignore: {pattern!r} matches no layer of {type(model).__name__}; "
                f"near names: {', '.join(near)}"
            )
        matched.update(n for n in names if any(n == h or n.startswith(f"{h}.") for h in hits))
    return matched
