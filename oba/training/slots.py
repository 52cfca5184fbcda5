"""One GPU, one job: which devices a machine shows, and a lock on each.

Snakemake counts GPUs but assigns none, and jobs that choose for themselves all choose the first. So each job takes
a lock file of one device; the kernel frees it when the job ends, however it ends. The files lie where all users of
the machine see them, for their jobs exclude each other too.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path

LOCKS = Path("/tmp")
"""The machine's own folder, not `TMPDIR`, which may differ between users."""
_log = logging.getLogger(__name__)
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_POLL = 0.5
"""Seconds between two looks at devices that are all taken."""


def visible_gpus() -> int:
    """Count the NVIDIA GPUs that a process started here would see, without importing torch.

    Returns:
        The number.
    """
    return len(visible_devices())


def visible_devices() -> list[str]:
    """Name the NVIDIA GPUs that a process started here would see.

    Like CUDA, reads ``CUDA_VISIBLE_DEVICES`` up to the first entry that is no device.

    Returns:
        Indices, or what the variable holds instead, such as ``GPU-8932f937``.
    """
    installed = _installed()
    if _VISIBLE not in os.environ:
        return [str(index) for index in range(installed)]
    words = (word.strip() for word in os.environ[_VISIBLE].split(","))
    return list(takewhile(lambda word: _is_device(word, installed), words))


@contextmanager
def device_slot(device: str, *, devices: Sequence[str] | None = None, folder: Path = LOCKS) -> Iterator[str | None]:
    """Hold one GPU alone inside the block, waiting for it if all are taken, and make CUDA see no other.

    Enter it before anything asks CUDA for its devices: CUDA reads the environment only once. Under SLURM the
    scheduler's choice stands: only jobs within one allocation share out the devices that it was given.

    Args:
        device: ``cpu``, which needs no slot, ``cuda`` or ``auto``.
        devices: Names of the devices to choose from; all that are visible if not given.
        folder: Where the lock files are.

    Yields:
        The device's name; None without GPUs, or if none is wanted.
    """
    devices = visible_devices() if devices is None else devices
    if device == "cpu" or not devices:
        yield None
        return
    torch = sys.modules.get("torch")
    assert torch is None or not torch.cuda.is_initialized(), "CUDA has read its devices already"
    chosen, handle = _take_one({name: folder / f"oba-gpu-{_allocation()}{name}.lock" for name in devices})
    before = os.environ.get(_VISIBLE)
    os.environ[_VISIBLE] = chosen
    try:
        yield chosen
    finally:
        if before is None:
            del os.environ[_VISIBLE]
        else:
            os.environ[_VISIBLE] = before
        os.close(handle)


def _installed(device_files: Path = Path("/dev")) -> int:
    """Count the machine's GPUs by their device files, or by asking the driver where it has none (WSL)."""
    files = len(list(device_files.glob("nvidia[0-9]*")))
    if files or not shutil.which("nvidia-smi"):
        return files
    with suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True)
        return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return 0


def _is_device(word: str, installed: int) -> bool:
    return word.startswith(("GPU-", "MIG-")) or (word.isdecimal() and int(word) < installed)


def _allocation() -> str:
    """Return what tells one allocation of the scheduler from another: each may count its devices from zero."""
    job = os.environ.get("SLURM_JOB_ID")
    return f"slurm-{job}-{os.environ.get('SLURM_STEP_ID', 'batch')}-" if job and _VISIBLE in os.environ else ""


def _take_one(locks: dict[str, Path]) -> tuple[str, int]:
    """Wait for the first free device; return its name and the handle that holds it."""
    waiting = False
    while True:
        for name, path in locks.items():
            if (handle := _try_lock(path)) is not None:
                return name, handle
        if not waiting:
            _log.warning("waiting for a GPU: other jobs hold %s", ", ".join(map(str, locks.values())))
            waiting = True
        time.sleep(_POLL)


def _try_lock(path: Path) -> int | None:
    """Return a handle that holds the lock, or None while somebody else does."""
    handle = _open(path)
    if handle is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    with suppress(PermissionError):
        os.utime(handle)  # cleaners of /tmp remove what is old
    return handle


def _open(path: Path) -> int | None:
    """Open a file that every user may lock; None while another user is making it, or a cleaner removes it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, mode=0o600)
    except FileExistsError:  # in a shared folder, Linux opens other users' files only without O_CREAT
        try:
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except (FileNotFoundError, PermissionError):
            return None
    os.fchmod(handle, 0o666)  # whatever the umask
    return handle
