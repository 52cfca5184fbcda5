"""Signals that ask a job to stop: from a scheduler before its time limit, from Snakemake, or Ctrl-C.

The first one raises :class:`StoppedError` where the job is, unless the job holds it back until what it has computed is
saved. Another one ends the process at once.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from oba.errors import StoppedError
from oba.identity import LAUNCHER

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""What asks a job to stop; schedulers send the last one some time before a job's limit if they are told to."""
BURST = 1.0
"""Seconds within which signals count as one: scheduler, terminal and torchrun may each send theirs."""


@dataclass
class _Heard:
    process: int = 0
    held: bool = False
    first: str | None = None
    at: float = 0.0


_heard = _Heard()


def listen() -> None:
    """Stop in good order at the signals of :data:`STOPS`, except those that this process was started to ignore."""
    _heard.process, _heard.held, _heard.first = os.getpid(), False, None
    for number in STOPS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _hear)


def received() -> str | None:
    """Return the name of the signal that asked this process to stop, such as ``SIGTERM``, if one did."""
    return _heard.first


@contextmanager
def held() -> Iterator[None]:
    """Hold a signal back inside the block, which asks :func:`received` and stops by itself, or ends soon.

    Yields:
        Nothing.

    Raises:
        StoppedError: At the block's end, if a signal came and the block went on to its end.
    """
    before, _heard.held = _heard.held, True
    try:
        yield
    finally:
        _heard.held = before
    if _heard.first and not before:
        raise StoppedError(_text(_heard.first))


@contextmanager
def let_through(wanted: bool) -> Iterator[None]:
    """Hold nothing back inside this part of a block of :func:`held`.

    Args:
        wanted: Whether that is wanted.

    Yields:
        Nothing.

    Raises:
        StoppedError: At once, if a signal was held back.
    """
    before, _heard.held = _heard.held, _heard.held and not wanted
    try:
        if _heard.first and not _heard.held:
            raise StoppedError(_text(_heard.first))
        yield
    finally:
        _heard.held = before


def _hear(number: int, _frame: object) -> None:
    if os.getpid() != _heard.process:
        _end_child(number)
    elif _heard.first is None:
        _heard.first, _heard.at = signal.Signals(number).name, time.monotonic()
        if not _heard.held:
            raise StoppedError(_text(_heard.first))
    elif time.monotonic() - _heard.at > BURST and LAUNCHER not in os.environ:  # ranks end with their launcher
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _end_child(number: int) -> None:
    """Let a forked process, such as one that reads images, work on until its parent ends it."""
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _text(name: str) -> str:
    return f"stopped by {name}; the same command goes on from what was saved"
