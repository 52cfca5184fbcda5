"""Running a command as the ranks of one job: by torchrun, in this process, and what that process and its ranks share.

The process that was asked for the job holds its lock and its devices, starts the ranks and waits. It says in one line
why they failed: each rank leaves a note of its error before it ends, and one that is killed leaves a signal. A rank
never outlives the process that started it, however that one ends. What the first rank prints is the job's output; the
others have logs of their own beside the job's.

torchrun itself (``torch.distributed.run``) restarts nothing here, and its own reports are kept quiet.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NoReturn

from oba import ranks
from oba.errors import ObaError, StoppedError
from oba.ranks import LostRankError
from oba.signals import BURST, STOPS

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

_LOG, _DEVICES = "OBA_RANK_LOG", "CUDA_VISIBLE_DEVICES"
_NOTE = ".json"
_SIGNALS = (signal.SIGHUP, signal.SIGQUIT)
"""What torchrun itself passes on to the ranks, which it kills half a minute later; those that stop a job may take it
longer."""
_PR_SET_PDEATHSIG = 1
_BUG = 1
"""Exit code of what is no error that a user can cause."""
_FOLLOW = {StoppedError.exit_code, LostRankError.exit_code}
"""Exit codes of ranks that may have nothing but other ranks to blame."""
_Notes = Mapping[int, Mapping[str, Any]]
_RESUMES = "start the job again: it goes on from what was saved"


def launch(count: int, command: Sequence[str], *, log: Path) -> None:
    """Run a program as the ranks of one job, and wait for them.

    Args:
        count: How many ranks, at least 2.
        command: What Python runs: ``["-m", "oba", …]``, or a script with its arguments. It is to call :func:`follow`.
        log: The job's log; rank 1 has ``<name>.rank1.log`` beside it, if it has anything to say.

    Raises:
        ObaError: What a rank raised, with its exit code.
        StoppedError: If a signal stopped the ranks and they have saved what they had.
        LostRankError: If a rank was killed, or failed in another way; the last words of its log are told.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    log.parent.mkdir(parents=True, exist_ok=True)
    meeting = TemporaryDirectory(prefix="oba-ranks-")
    told = {ranks.LAUNCHER: str(os.getpid()), ranks.MEETING: meeting.name, _LOG: str(log.absolute())}
    # One machine: no name of it has to be resolved, and no other one can connect. Ranks set their threads themselves.
    told |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    told |= {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    # torch's warnings from C++: among them, that looking for unused parameters was not needed.
    told |= {"TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR")}
    # torchrun's --standalone would listen on all interfaces, and unpickle what it is sent.
    torchrun = ["--rdzv-backend=c10d", "--rdzv-conf=store_type=file", f"--rdzv-endpoint={meeting.name}/torchrun"]
    torchrun += [f"--rdzv-id={os.getpid()}", "--local-addr=127.0.0.1", f"--log-dir={meeting.name}"]
    torchrun += [f"--nproc-per-node={count}", *command]
    options, failures, relay = parse_args(torchrun), {}, _Relay()
    options.signals_to_handle = ",".join(number.name for number in _SIGNALS)
    try:
        with _environment(told), _quiet(), _handlers(relay):
            run(options)
    except ChildFailedError as error:
        failures = error.failures
    except SignalException as error:
        relay.first = error.sigval
    finally:
        paths = Path(meeting.name).glob(f"*{_NOTE}")
        left = {int(path.stem): json.loads(path.read_text(encoding="utf-8")) for path in paths}
        meeting.cleanup()
        for rank in range(1, count):
            own = _log_of(log, rank)
            if own.exists() and not own.stat().st_size:
                own.unlink()
    if relay.first is not None:
        _tell_stop(left)
        signal.raise_signal(relay.first)  # it has its effect on this process, too
    elif failures:
        _tell(failures, count, left, log)


def follow() -> None:
    """Behave as a rank, if this process is one: end with the one that started it, and use the rank's own log and GPU.

    Call it before anything asks CUDA for its devices.
    """
    if ranks.LAUNCHER not in os.environ:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(os.environ[ranks.LAUNCHER]):
        os._exit(LostRankError.exit_code)  # it ended before it could be followed
    devices = os.environ.get(_DEVICES, "").split(",")
    if len(devices) == ranks.count():
        os.environ[_DEVICES] = devices[ranks.rank()]
    if not ranks.is_main():
        with _log_of(Path(os.environ[_LOG]), ranks.rank()).open("w", encoding="utf-8") as stream:
            for output in (sys.stdout, sys.stderr):
                os.dup2(stream.fileno(), output.fileno())


def is_followed() -> bool:
    """Tell whether this process is a rank, whose errors are told by the process that started it."""
    return ranks.LAUNCHER in os.environ


def leave(error: BaseException, known: ObaError | StoppedError | None) -> NoReturn:
    """End a rank after an error, at once: other ranks may wait for this one, and it for nothing.

    Args:
        error: What was raised; a bug's traceback goes to the rank's own output.
        known: The error that a user can cause, if it is one.
    """
    if known is None:
        traceback.print_exception(error)
    elif not ranks.is_main():
        sys.stderr.write(f"error: {known}\n")
    code = _BUG if known is None else known.exit_code
    text = f"{type(error).__name__}: {error}".splitlines()[0] if known is None else str(known)
    note = {"code": code, "text": text}
    Path(os.environ[ranks.MEETING], f"{ranks.rank()}{_NOTE}").write_text(json.dumps(note), encoding="utf-8")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _log_of(log: Path, rank: int) -> Path:
    return log.with_suffix(f".rank{rank}{log.suffix}")


def _tell_stop(notes: _Notes) -> None:
    """Raise what ranks said that a signal stopped, if there are any."""
    for _, note in sorted(notes.items()):
        if note["code"] == StoppedError.exit_code:
            raise StoppedError(note["text"])


def _tell(failures: Mapping[int, ProcessFailure], count: int, notes: _Notes, log: Path) -> NoReturn:
    """Raise the error that the others followed from: what a rank told, then a kill, a bug, a stop, a loss."""
    for _, note in sorted(notes.items()):
        if note["code"] not in {_BUG, *_FOLLOW}:
            error = ObaError(note["text"])
            error.exit_code = note["code"]
            raise error
    # After the first failure torchrun ends the others, by SIGTERM.
    killed = {rank: -failure.exitcode for rank, failure in failures.items() if failure.exitcode < 0}
    first = {rank: number for rank, number in killed.items() if number != signal.SIGTERM}
    broken = [rank for rank, failure in failures.items() if failure.exitcode > 0]  # in the order of their ends
    broken.sort(key=lambda rank: (failures[rank].exitcode in _FOLLOW, rank))
    if not first and all(failures[rank].exitcode in _FOLLOW for rank in broken):
        _tell_stop(notes)
        first = killed
    if first:
        rank = min(first, key=lambda rank: failures[rank].timestamp)
        raise LostRankError(f"rank {rank} of {count} was killed by {_named(first[rank])}; {_RESUMES}")
    rank = broken[0]
    text = notes[rank]["text"] if rank in notes else f"exit code {failures[rank].exitcode}"
    where = "above" if rank == 0 else f"in {_log_of(log, rank)}"
    raise LostRankError(f"rank {rank} of {count} failed ({text}); what it said is {where}")


def _named(number: int) -> str:
    name = signal.Signals(number).name
    return f"signal {number} ({name}{'; perhaps memory ran out' if number == signal.SIGKILL else ''})"


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables that the ranks inherit, and restore them."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torchrun's own warnings off the terminal: what they tell is told in one line."""
    logger = logging.getLogger("torch.distributed")  # torch gives it a handler of its own
    handlers, propagates = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [logging.NullHandler()], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagates


class _Relay:
    """Passes the first signal that stops a job on to the ranks, and waits for them; another one ends this process."""

    def __init__(self) -> None:
        from psutil import Process
        from torch.distributed.elastic.multiprocessing.api import SignalException

        self.first: int | None = None
        self._at, self._none, self._children = 0.0, SignalException, Process().children

    def __call__(self, number: int, _frame: object) -> None:
        if self.first is not None:
            if time.monotonic() - self._at > BURST:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)  # the ranks end with this process
            return
        self.first, self._at = number, time.monotonic()
        started = [process.pid for process in self._children()]
        for rank in started:
            with suppress(ProcessLookupError):
                os.kill(rank, number)
        if not started:
            raise self._none("no rank runs yet", signal.Signals(number))


@contextmanager
def _handlers(relay: _Relay) -> Iterator[None]:
    """Use a relay, and restore all handlers afterwards, also those that torchrun replaces."""
    before = {number: signal.getsignal(number) for number in (*STOPS, *_SIGNALS)}
    for number in STOPS:
        if before[number] != signal.SIG_IGN:
            signal.signal(number, relay)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
