"""One GPU, one job: which devices a machine shows, and a lock on each.

Snakemake counts GPUs but assigns none, and jobs that choose for themselves all choose the first. So each job takes
the lock files of its devices; the kernel frees them when the job ends, however it ends. The files lie where all users
of the machine see them, for their jobs exclude each other too.

Only the job at the head of a queue, which is a lock as well, takes devices: as they come free, until it has as many as
it wants. So no two jobs ever wait for each other's devices, and one that wants many is not passed by for ever.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import takewhile
from pathlib import Path

from oba.errors import ConfigError

LOCKS = Path("/tmp")
"""The machine's own folder, not `TMPDIR`, which may differ between users."""
_log = logging.getLogger(__name__)
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_POLL = 0.5
"""Seconds between two looks at devices that are all taken."""
_held: list[str] = []
"""The devices that this process holds."""


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
def device_slots(
    device: str, count: int = 1, *, devices: Sequence[str] | None = None, folder: Path = LOCKS
) -> Iterator[list[str]]:
    """Hold GPUs alone inside the block, waiting until as many are free, and make CUDA see no others.

    Enter it before anything asks CUDA for its devices: CUDA reads the environment only once. Inside a block, another
    one has the first of those devices. Under SLURM the scheduler's choice stands: only jobs within one allocation
    share out the devices that it was given.

    Args:
        device: ``cpu``, which needs no slot, ``cuda`` or ``auto``.
        count: How many GPUs are wanted.
        devices: Names of the devices to choose from; all that are visible if not given.
        folder: Where the lock files are.

    Yields:
        The devices' names; none if none is wanted, or if one is and there are none.

    Raises:
        ConfigError: If several are wanted and there are fewer.
    """
    devices = visible_devices() if devices is None else devices
    if device == "cpu" or (count == 1 and not devices):
        yield []
        return
    if _held:
        with _visible(_held[:count]) as chosen:
            yield chosen
        return
    if count > len(devices):
        raise ConfigError(f"gpus: {count}, but this job sees {too_few(len(devices))}")
    torch = sys.modules.get("torch")
    assert torch is None or not torch.cuda.is_initialized(), "CUDA has read its devices already"
    locks = {name: folder / f"oba-gpu-{_allocation()}{name}.lock" for name in devices}
    with ExitStack() as held:
        chosen = _take(count, locks, folder / f"oba-gpu-{_allocation()}queue.lock", held)
        held.callback(_held.clear)
        _held.extend(chosen)
        with _visible(chosen):
            yield chosen


@contextmanager
def _visible(chosen: list[str]) -> Iterator[list[str]]:
    """Let CUDA, and processes that are started, see some devices alone."""
    before = os.environ.get(_VISIBLE)
    os.environ[_VISIBLE] = ",".join(chosen)
    try:
        yield chosen
    finally:
        if before is None:
            del os.environ[_VISIBLE]
        else:
            os.environ[_VISIBLE] = before


def too_few(gpus: int) -> str:
    """Say that there are fewer GPUs than wanted, and what is allowed; the end of a message.

    Args:
        gpus: How many there are.

    Returns:
        The text.
    """
    return (
        f"{gpus} NVIDIA GPU{'' if gpus == 1 else 's'}; allowed: at most {max(gpus, 1)}, or runtime.device: cpu, where "
        "each is a process without a GPU"
    )


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


def _take(count: int, locks: dict[str, Path], queue: Path, held: ExitStack) -> list[str]:
    """Wait in the queue, then for free devices; return the names of those that are held from now on, in their order."""
    chosen: set[str] = set()
    pauses = _pauses("a GPU" if count == 1 else f"{count} GPUs", locks)
    with ExitStack() as turn:
        while not _hold(queue, turn):
            next(pauses)
        while True:
            free = (name for name, path in locks.items() if name not in chosen and _hold(path, held))
            chosen.update(itertools.islice(free, count - len(chosen)))
            if len(chosen) == count:
                return [name for name in locks if name in chosen]
            next(pauses)


def _pauses(wanted: str, locks: dict[str, Path]) -> Iterator[None]:
    """Sleep a while each time; say why, but only once, and not where the queue was held for a moment."""
    for number in itertools.count():
        if number == 1:
            _log.warning("waiting for %s: other jobs hold %s", wanted, ", ".join(map(str, locks.values())))
        time.sleep(_POLL)
        yield


def _hold(path: Path, held: ExitStack) -> bool:
    """Lock a file until a stack is closed; return whether nobody else holds it."""
    handle = _try_lock(path)
    if handle is not None:
        held.callback(os.close, handle)
    return handle is not None


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
