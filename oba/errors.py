"""Errors that a user can cause, each kind with its own exit code.

Every message says what is wrong, where, and what is allowed; the command line prints it on one
line and exits with the class's code. Anything else that is raised is a bug and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path


class Told(BaseException):
    """What is told in lines, without a traceback, and ends the command with a code.

    Attributes:
        exit_code: What the command ends with.
        job: The job that met the error, as people name it; empty outside of jobs.
    """

    exit_code = 1
    job = ""

    def lines(self) -> list[str]:
        """Return what to tell, each line with the job, unless it is named already."""
        where = f"{self.job}: " if self.job and not str(self).startswith(self.job) else ""
        return [f"error: {where}{line}" for line in str(self).splitlines()]


class ObaError(Told, Exception):
    """Base of all errors that are reported without a traceback."""


class ConfigError(ObaError):
    """The study file, or an option, asks for something that is not allowed."""

    exit_code = 3


class DataError(ObaError):
    """Images or labels are missing, unreadable or of the wrong kind."""

    exit_code = 4


class ModelError(ObaError):
    """A model cannot be built, loaded or pruned as asked."""

    exit_code = 5


class BudgetError(ObaError):
    """A level of ``keep`` cannot be reached within the floors of the layers."""

    exit_code = 6


class ScoreError(ObaError):
    """Scores cannot be computed, or are not finite."""

    exit_code = 7


class TrainingError(ObaError):
    """Training cannot go on, for example because the loss is not finite."""

    exit_code = 8


class FileError(ObaError):
    """A stage's file is missing, damaged or does not fit the others."""

    exit_code = 9


class TrackingError(ObaError):
    """The tracking server or store cannot be reached, or refuses what it is sent."""

    exit_code = 10


class ExportError(ObaError):
    """A net cannot be exported as asked, or what was exported computes something else."""

    exit_code = 12


class StoppedError(Told):
    """A signal asked the job to stop; like KeyboardInterrupt it is no Exception, so no handler of errors takes it."""

    exit_code = 14


class RecoverError(ObaError):
    """A lost run cannot be taken up now: it may be alive, or its cluster does not answer."""

    exit_code = 15


_REMEDIES = {
    errno.ENOSPC: "free some space and run again: finished jobs and epochs are kept",
    errno.EDQUOT: "free some space or raise the quota and run again: finished jobs and epochs are kept",
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`) and run again: finished jobs and epochs are kept",
    errno.EROFS: "choose a folder that can be written, or remount the file system",
    errno.EACCES: "give the user who runs this the permission, or choose another folder",
    errno.EPERM: "give the user who runs this the permission, or choose another folder",
    errno.EIO: "the disk or its network connection is failing; check it before the next run",
    errno.ESTALE: "its network disk has lost it; run again once the disk is back: finished jobs and epochs are kept",
}
_CODE_IN_TEXT = re.compile(r"\(os error (\d+)\)")
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")


def explain_oserror(error: Exception, path: Path | None = None) -> FileError | None:
    """Turn an error of the disk or of permissions into one that a user can act on.

    NumPy and safetensors report a full disk without its number; their messages are recognised.

    Args:
        error: What was raised.
        path: The file in question; without it, the one that the error names.

    Returns:
        What is wrong, with which file and what to do; or None if the error is of another kind.
    """
    code = _errno(error)
    if code not in _REMEDIES:
        return None
    where = path or getattr(error, "filename", None) or "a file"
    return FileError(f"{where}: {os.strerror(code).lower()}; {_REMEDIES[code]}")


def _errno(error: Exception) -> int | None:
    """Return the system's number of an error, also where a library put it into words."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if found := _CODE_IN_TEXT.search(str(error)):
        return int(found[1])
    return errno.ENOSPC if isinstance(error, OSError) and _SHORT_WRITE.fullmatch(str(error)) else None
