"""The environment in which MLflow is called: silent, without telemetry, never waiting long."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    # Connections are closed after use: a pooled one would outlive its database, and a fork.
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",
}
HURRIED = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "PGCONNECT_TIMEOUT": "5"}
"""For stages: seconds, and further tries, after which a server counts as dead."""
PATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "PGCONNECT_TIMEOUT": "30"}
"""For people who wait."""
_CHATTY = ("mlflow", "alembic", "urllib3.connectionpool")


@contextmanager
def quiet(waiting: dict[str, str]) -> Iterator[None]:
    """Set what MLflow reads from the environment, except where the user has set it, and undo it afterwards."""
    ours = {name: value for name, value in (_SETTINGS | waiting).items() if name not in os.environ}
    levels = {name: logging.getLogger(name).level for name in _CHATTY}
    os.environ.update(ours)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
