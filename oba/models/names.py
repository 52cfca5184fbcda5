"""Names of nets: what a study may ask for. Importing this costs no torch.

``resnet20``, ``vgg19``: this project's nets; a suffix ``x<number>`` multiplies all channel counts
(``resnet32x4``, ``resnet20x0.5``). ``timm/<name>`` and ``torchvision/<name>``: those libraries' nets,
looked up in the library, which is imported for such names only.
"""

from __future__ import annotations

import difflib
import re

from oba.errors import ConfigError

DEPTHS = {"resnet": (8, 14, 20, 32, 44, 56), "vgg": (11, 13, 16, 19)}
"""Depths of this project's nets, by family."""
LIBRARIES = ("timm", "torchvision")
"""Where other nets come from."""

_OWN = re.compile(r"(resnet|vgg)(\d{1,3})(?:x(\d{1,3}(?:\.\d{1,6})?))?", re.ASCII)
_WIDTHS = (0.0625, 16.0)


def check_name(name: str, where: str) -> None:
    """Refuse a name that no net has.

    Args:
        name: The net's name.
        where: The key that asked for it, for the message.

    Raises:
        ConfigError: If there is no such net, or its library cannot be imported.
    """
    library, slash, _ = name.partition("/")
    if not slash or library not in LIBRARIES:
        _check_own(name, where)
        return
    try:
        known = [f"{library}/{other}" for other in _library_names(library)]
    except (ImportError, RuntimeError) as error:  # a torchvision that does not match torch raises RuntimeError
        raise ConfigError(f"{where}: {name!r} needs {library}, which cannot be imported ({error})") from error
    if name not in known:
        raise ConfigError(_unknown(name, where, known, f"the names in {library}'s list_models()"))


def slug(name: str) -> str:
    """Return the name as a folder's name.

    Args:
        name: The net's name.

    Returns:
        ``timm-x`` for ``timm/x``; names without a slash as they are.
    """
    return name.replace("/", "-")


def _check_own(name: str, where: str) -> None:
    match = _OWN.fullmatch(name)
    if not match or int(match[2]) not in DEPTHS[match[1]]:
        plain = [f"{kind}{depth}" for kind, depths in DEPTHS.items() for depth in depths]
        others = " or ".join(f"{library}/<name>" for library in LIBRARIES)
        allowed = f"{', '.join(plain)} (each also wider or narrower, such as resnet32x4), {others}"
        raise ConfigError(_unknown(name, where, plain, allowed))
    if not _WIDTHS[0] <= float(match[3] or 1) <= _WIDTHS[1]:
        raise ConfigError(f"{where}: {name!r} is {match[3]} times as wide; allowed: {_WIDTHS[0]} to {_WIDTHS[1]:g}")


def _library_names(library: str) -> list[str]:
    """List the classifiers that a library builds; timm's also with the tags of their pretrained weights."""
    if library == "timm":
        import timm

        return sorted({*timm.list_models(), *timm.list_models(include_tags=True)})
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def _unknown(name: str, where: str, candidates: list[str], allowed: str) -> str:
    near = difflib.get_close_matches(name, candidates, n=3)
    hint = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
    return f"{where}: unknown model {name!r}{hint}; allowed: {allowed}"
