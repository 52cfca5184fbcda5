"""What the stages report: journals on disk, which MLflow mirrors.

A stage writes to its journal first and passes it on when it can; :func:`sync` passes on the rest. Nothing
here imports mlflow before it is needed.
"""

from __future__ import annotations

from oba.tracking.events import RunIdentity
from oba.tracking.mirror import SyncReport, begin, find_journals, sync
from oba.tracking.run import NetFiles, StageRun, UnheardRun, stage_run
from oba.tracking.uri import resolve_uri

__all__ = [
    "NetFiles",
    "RunIdentity",
    "StageRun",
    "SyncReport",
    "UnheardRun",
    "begin",
    "find_journals",
    "resolve_uri",
    "stage_run",
    "sync",
]
