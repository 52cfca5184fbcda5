"""Reading the names of nets: which family builds one, how deep and how wide it is."""

from __future__ import annotations

import re


def family(name: str) -> str:
    """Return the kind of net that a name means: the module of :mod:`oba.models.families` that builds it.

    Args:
        name: A name that :func:`oba.models.names.check_name` accepts.

    Returns:
        ``resnet``, ``vgg``, ``timm`` or ``torchvision``.
    """
    library, slash, _ = name.partition("/")
    return library if slash else re.split(r"\d", name, maxsplit=1)[0]


def parse_own(name: str) -> tuple[int, float]:
    """Read the name of one of this project's nets.

    Args:
        name: A name that :func:`oba.models.names.check_name` accepts, of the family ``resnet`` or ``vgg``.

    Returns:
        The depth and the width factor.
    """
    depth, _, width = name.removeprefix(family(name)).partition("x")
    return int(depth), float(width or 1)
