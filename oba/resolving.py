"""Resolving a study without importing what checks it: in another process, and once.

Options are declared beside the code that has them, so checking a study imports torch: seconds, and half a gigabyte that
a process that plans a sweep would keep. What a study resolves to follows from its values, this package and a few
libraries, so it is remembered.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from oba.cache import Cache
from oba.config import Study
from oba.errors import ConfigError
from oba.files import digest_json
from oba.study import dump_study, parse_study

_LIBRARIES = ("torch", "torchvision", "timm", "pydantic")
"""Libraries that know names of nets and weights, or check values."""
_MOST = 50
"""Studies that are remembered."""


def resolve_study(values: Any, origin: str) -> Study:
    """Check plain values and turn them into a study, as :func:`oba.study.parse_study` does.

    Args:
        values: What a study file holds.
        origin: Where the values come from, for messages.

    Returns:
        The checked study.

    Raises:
        ConfigError: If anything is not allowed; one line per mistake. Mistakes are not remembered.
    """
    asked = {"values": values, "origin": origin}
    try:
        unchanged = json.loads(json.dumps(asked)) == asked
    except (TypeError, ValueError, RecursionError):
        unchanged = False
    if not unchanged:  # dates, keys that are numbers: a mistake, most likely
        return parse_study(values, origin)
    studies = Cache("studies", most=_MOST)
    resolved = studies.value(digest_json([asked, _code()]), lambda: _resolved_elsewhere(asked))
    studies.save()
    return Study.model_validate(resolved)


def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what :func:`resolve_study` asks another process for.

    Args:
        asked: The values of a study and their origin.

    Returns:
        The resolved study, in plain values.

    Raises:
        ConfigError: If anything is not allowed.
    """
    return dump_study(parse_study(asked["values"], asked["origin"]))


def _resolved_elsewhere(asked: Mapping[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "oba", "resolve"], input=json.dumps(asked), capture_output=True, text=True
    )
    if done.returncode == ConfigError.exit_code:
        raise ConfigError("\n".join(line.removeprefix("error: ") for line in done.stderr.splitlines()))
    if done.returncode:
        raise RuntimeError(f"`oba resolve` failed:\n{done.stderr}")
    return json.loads(done.stdout)


def _code() -> list[str]:
    """Return what the outcome depends on besides the values: this package, and the libraries that it asks."""
    package = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        package.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return [package.hexdigest(), sys.version, *map(_version, _LIBRARIES)]


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "absent"
