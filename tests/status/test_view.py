"""What is said of the time that is left while a run works."""

from __future__ import annotations

import io
import logging
import time

import pytest
from rich.console import Console

from oba.status.screen import Lines
from oba.status.view import Running, View


def shown(view: View) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(view.draw())
    return console.file.getvalue()


def job(rule: str) -> Running:
    fields = {
        "rule_name": rule,
        "wildcards": {},
        "log": [],
        "output": [],
        "benchmark": None,
        "created": time.time() - 5,
    }
    return Running.of(logging.makeLogRecord(fields), None)


@pytest.fixture
def view() -> View:
    view = View(Lines(io.StringIO()))
    view.plan({"prepare": 2, "collect": 1, "report": 1})
    return view


def test_nothing_is_known_of_the_first_job(view):
    view.start(1, job("prepare"))
    assert "time left unknown" in shown(view)


def test_finished_jobs_say_how_long_the_others_take(view):
    view.start(1, job("prepare"))
    view.end(1, 60.0)
    view.start(2, job("prepare"))
    assert "about 0:55 left" in shown(view)


def test_tables_and_pictures_come_last_and_take_no_time(view):
    for number in (1, 2):
        view.start(number, job("prepare"))
        view.end(number, 60.0)
    view.start(3, job("collect"))
    assert "almost done" in shown(view)
    view.end(3, 1.0)
    view.start(4, job("report"))
    assert "almost done" in shown(view)
