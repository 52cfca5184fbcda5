"""Snakemake's plugin: it is what Snakemake asks for, and whatever happens to it, the run goes on."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import oba.status

FOLDER = Path(oba.status.__file__).parent / "plugin"
SETTINGS = {"printshellcmds": True, "nocolor": True, "quiet": None, "debug_dag": False, "verbose": False}


@pytest.fixture
def stream(monkeypatch) -> io.StringIO:
    found = io.StringIO()
    monkeypatch.setattr(sys, "stderr", found)
    return found


@pytest.fixture
def handler(stream, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    from snakemake_logger_plugin_oba import LogHandler

    settings = SimpleNamespace(**SETTINGS, show_failed_logs=True, stdout=False, dryrun=False)
    return LogHandler(settings, None)


def say(handler, text: str, level: int = logging.WARNING) -> None:
    handler.emit(logging.makeLogRecord({"msg": text, "levelno": level, "levelname": "WARNING"}))


def test_snakemake_finds_it(monkeypatch):
    from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

    monkeypatch.syspath_prepend(str(FOLDER))
    registry = LoggerPluginRegistry()
    registry.collect_plugins()
    assert "oba" in registry.plugins


def test_it_writes_to_the_terminal_and_snakemake_to_its_log(handler, stream):
    assert (handler.writes_to_stream, handler.writes_to_file) == (True, False)
    assert (handler.has_filter, handler.has_formatter, handler.needs_rulegraph) == (True, True, False)
    say(handler, "be warned")
    assert stream.getvalue() == "be warned\n"


def test_a_display_that_fails_is_replaced_by_snakemakes(handler, stream, monkeypatch):
    def broken(record: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(sys, "stderr", stream)  # pytest has taken it back since
    monkeypatch.setattr(handler._teller, "take", broken)
    say(handler, "one")
    say(handler, "two")
    lines = stream.getvalue().splitlines()
    assert lines == ["the display failed (KeyError: 'x'); Snakemake's own follows, and the run goes on", "one", "two"]


def test_no_step_of_a_run_fails_for_its_display(handler, stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    handler.know(None, cluster=False)
    assert stream.getvalue().startswith("the display failed (AttributeError: ")
    say(handler, "one")
    assert stream.getvalue().endswith("\none\n")


def test_nobody_reads(handler, stream, monkeypatch):
    def closed(text: str) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(stream, "write", closed)
    say(handler, "one")
    monkeypatch.undo()
    say(handler, "two")
    handler.close()
    assert stream.getvalue() == ""


def test_a_run_waits_for_what_was_said_but_not_for_ever(handler, monkeypatch):
    monkeypatch.setattr(sys.modules["oba.status.handler"], "_PATIENCE", 0.1)
    stuck = SimpleNamespace(queue_listener=SimpleNamespace(queue=SimpleNamespace(unfinished_tasks=1)))
    handler.settle(stuck)
    assert not handler.interrupted
    handler.settle(SimpleNamespace())  # of another version
