"""Signals that ask a job to stop, sent to real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oba.identity import LAUNCHER
from oba.signals import STOPS, held, let_through, received

ROOT = Path(__file__).parents[1]
BEGIN = """
import os, signal, sys, time
from oba import signals
from oba.errors import StoppedError
from oba.signals import held, let_through, listen, received

listen()
def send(number, to=None):
    os.kill(to or os.getpid(), number)
try:
    {body}
except StoppedError as error:
    print("stopped:", error)
    sys.exit(error.exit_code)
"""


def run(body: str, **environment: str) -> tuple[int, list[str]]:
    """Run some lines in a process that listens; return its exit code and what it printed."""
    # Shells start background jobs that ignore this signal.
    program = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
    program += BEGIN.format(body="\n    ".join(body.strip().splitlines()))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, "-uc", program], env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_stops_a_job_where_it_is(number):
    code, said = run(f"try:\n    send({int(number)})\nexcept Exception:\n    print('swallowed')\nprint('goes on')")
    assert code == 14
    assert said == [f"stopped: stopped by {number.name}; the same command goes on from what was saved"]


def test_a_signal_that_is_held_back_waits_for_the_end_of_the_block():
    code, said = run("with held():\n    send(signal.SIGUSR1)\n    print(received())\nprint('goes on')")
    assert code == 14
    assert said == ["SIGUSR1", "stopped: stopped by SIGUSR1; the same command goes on from what was saved"]


def test_an_error_inside_of_the_block_is_not_replaced():
    code, said = run(
        "try:\n    with held():\n        send(15)\n        raise StoppedError('saved')\n"
        "except StoppedError as error:\n    print(error)"
    )
    assert (code, said) == (0, ["saved"])


@pytest.mark.parametrize("early", [True, False])
def test_part_of_a_block_may_let_signals_through(early):
    send = ["send(15)", "pass"] if early else ["pass", "send(15)"]
    code, said = run(
        f"with held():\n    {send[0]}\n    with let_through(False):\n        print('held')\n"
        f"    with let_through(True):\n        {send[1]}\n        print('through')\n    print('after')"
    )
    assert code == 14
    assert said == ["held", "stopped: stopped by SIGTERM; the same command goes on from what was saved"]


def test_signals_of_one_moment_are_one_and_a_later_one_ends_at_once():
    body = "with held():\n    send(15)\n    send(2)\n    send(15)\n    print(received())\n"
    assert run(body + "    raise StoppedError('saved')") == (14, ["SIGTERM", "stopped: saved"])
    later = "    signals._heard.at -= signals.BURST\n    send(2)\n    print('goes on')"
    assert run(body + later) == (-signal.SIGINT, ["SIGTERM"])
    assert run(body + later, **{LAUNCHER: "1"})[1][:2] == ["SIGTERM", "goes on"], "ranks end with their launcher"


def test_a_forked_process_works_on_until_its_parent_ends_it():
    body = """
child = os.fork()
if not child:
    send(signal.SIGINT)
    send(signal.SIGUSR1)
    os.write(1, b"works on\\n")
    send(signal.SIGTERM)
    os.write(1, b"lives\\n")
    os._exit(0)
print(os.waitpid(child, 0)[1], received())
"""
    assert run(body) == (0, ["works on", "15 None"])


def test_a_signal_that_was_to_be_ignored_is_ignored():
    program = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)" + BEGIN.format(body="send(2)\n    print(1)")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_a_process_that_does_not_listen_holds_nothing_back():
    before = [signal.getsignal(number) for number in STOPS]
    with held(), let_through(True):
        assert received() is None
    assert [signal.getsignal(number) for number in STOPS] == before
