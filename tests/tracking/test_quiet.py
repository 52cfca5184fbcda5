"""The surroundings of MLflow are changed for its calls only."""

from __future__ import annotations

import logging
import os

import pytest

from oba.tracking.quiet import HURRIED, PATIENT, quiet


def test_environment_and_levels_are_set_and_put_back(monkeypatch):
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "9")
    before, level = dict(os.environ), logging.getLogger("mlflow").level
    with quiet(HURRIED):
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "5"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "9"
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == os.environ["DO_NOT_TRACK"] == "true"
        assert not logging.getLogger("mlflow.store.db.utils").isEnabledFor(logging.ERROR)
        assert not logging.getLogger("urllib3.connectionpool").isEnabledFor(logging.WARNING)
    assert dict(os.environ) == before
    assert logging.getLogger("mlflow").level == level


def test_mlflow_reads_these_names(monkeypatch):
    from mlflow import environment_variables as read

    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.delenv(name, raising=False)
    for waiting, seconds, retries in ((HURRIED, 5, 1), (PATIENT, 30, 3)):
        with quiet(waiting):
            assert read.MLFLOW_HTTP_REQUEST_TIMEOUT.get() == seconds
            assert read.MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == retries
            assert read.MLFLOW_DISABLE_TELEMETRY.get()
            assert read.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.get()
            assert not read.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.get()
            assert read.MLFLOW_SQLALCHEMYSTORE_POOLCLASS.get() == "NullPool"


def test_environment_is_put_back_after_an_error():
    before = dict(os.environ)
    with pytest.raises(KeyError), quiet(HURRIED):
        raise KeyError
    assert dict(os.environ) == before
