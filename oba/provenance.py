"""Where and when a result was made: versions, machine, commit, time."""

from __future__ import annotations

import platform
import socket
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any


def now() -> str:
    """Return the current time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def git_state() -> dict[str, Any]:
    """Return the commit of the source tree that this package runs from.

    Returns:
        ``commit`` (or ``None`` outside a checkout) and ``dirty``.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def provenance() -> dict[str, Any]:
    """Return what a result depends on besides its inputs: versions, machine, commit, time.

    Returns:
        Plain values.
    """
    return {
        "oba": version("oba"),
        "torch": version("torch"),
        "python": platform.python_version(),
        "host": socket.gethostname(),
        "git": git_state(),
        "time": now(),
    }
