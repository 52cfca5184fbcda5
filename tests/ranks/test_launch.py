"""What torchrun makes of ranks that end in every possible way: one error each, and nothing else on the terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from oba import ranks
from oba.errors import ObaError, StoppedError
from oba.ranks import LostRankError
from oba.signals import BURST
from oba.training.launch import launch

RANK = """
import os, signal, sys, time
from oba import ranks
from oba.errors import ScoreError, StoppedError
from oba.ranks import LostRankError
from oba.signals import held, listen, received
from oba.training.launch import follow, is_followed, leave

def meet(where):
    open(f"{rank}.{where}", "w").close()
    while not all(os.path.exists(f"{other}.{where}") for other in range(ranks.count())):
        time.sleep(0.01)

follow()
assert is_followed()
rank = ranks.rank()
print(f"out {rank}", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
meet("printed")
try:
    exec(sys.argv[1])
except (Exception, StoppedError) as error:
    leave(error, error if isinstance(error, (ScoreError, LostRankError, StoppedError)) else None)
"""


@pytest.fixture
def start(tmp_path, tmp_path_factory, monkeypatch):
    """Run two or more ranks that do what a line of Python says."""
    meetings = tmp_path_factory.mktemp("meetings")
    monkeypatch.setattr(tempfile, "tempdir", str(meetings))
    monkeypatch.chdir(tmp_path)
    Path("rank.py").write_text(RANK)

    def run(what: str, count: int = 2) -> None:
        before = dict(os.environ), signal.getsignal(signal.SIGTERM)
        try:
            launch(count, ["rank.py", what], log=Path("logs/job.log"))
        finally:
            assert (dict(os.environ), signal.getsignal(signal.SIGTERM)) == before
            assert not list(meetings.iterdir()), "nothing stays"

    return run


def test_ranks_that_succeed_say_what_they_say_where_it_belongs(start, capfd, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7,2")
    start("print('error line', file=sys.stderr) if rank == 2 else None", count=3)
    assert capfd.readouterr() == ("out 0 5\n", "")
    assert Path("logs/job.rank1.log").read_text() == "out 1 GPU-7\n"
    assert Path("logs/job.rank2.log").read_text() == "out 2 2\nerror line\n"


def test_a_rank_with_nothing_to_say_leaves_no_log(start, capfd):
    start("os.truncate(1, 0) if rank else None")
    assert capfd.readouterr() == ("out 0 None\n", "")
    assert list(Path("logs").iterdir()) == []


ENDS = {
    "an error of all": ("raise ScoreError('not finite')", 7, "not finite"),
    "an error of one": ("raise ScoreError('batch 3') if rank == 1 else time.sleep(60)", 7, "batch 3"),
    "an error, and a rank that lost the other": (
        "leave(e := ScoreError('batch 3') if rank == 1 else LostRankError('lost'), e)",
        7,
        "batch 3",
    ),
    "killed": (
        "os.kill(os.getpid(), 9) if rank == 1 else time.sleep(60)",
        13,
        "rank 1 of 2 was killed by signal 9 (SIGKILL; perhaps memory ran out); start the job again: it goes on from "
        "what was saved",
    ),
    "killed, and the other lost it": (
        "os.kill(os.getpid(), 11) if rank == 0 else leave(LostRankError('lost'), LostRankError('lost'))",
        13,
        "rank 0 of 2 was killed by signal 11 (SIGSEGV); start the job again: it goes on from what was saved",
    ),
    "terminated by somebody": (
        "os.kill(os.getpid(), 15) if rank == 1 else time.sleep(60)",
        13,
        "rank 1 of 2 was killed by signal 15 (SIGTERM); start the job again: it goes on from what was saved",
    ),
    "a bug": (
        "int('x') if rank == 1 else time.sleep(60)",
        13,
        "rank 1 of 2 failed (ValueError: invalid literal for int() with base 10: 'x'); what it said is in "
        "logs/job.rank1.log",
    ),
    "all lost each other": (
        "raise LostRankError('Timed out')",
        13,
        "rank 0 of 2 failed (Timed out); what it said is above",
    ),
    "an exit": (
        "sys.exit(5) if rank == 1 else time.sleep(60)",
        13,
        "rank 1 of 2 failed (exit code 5); what it said is in logs/job.rank1.log",
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_end_of_a_rank_is_told_once(start, capfd, name):
    what, code, text = ENDS[name]
    with pytest.raises(ObaError) as told:
        start(what)
    assert (str(told.value), told.value.exit_code) == (text, code)
    assert capfd.readouterr() == ("out 0 None\n", "")
    if name == "a bug":
        assert "Traceback (most recent call last)" in Path("logs/job.rank1.log").read_text()
    if name == "an error of one":
        assert Path("logs/job.rank1.log").read_text() == "out 1 None\nerror: batch 3\n"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_ranks_that_lost_each_other_the_first_is_told_whichever_ended_first(monkeypatch, start, order):
    def end(_):
        lost = {rank: ProcessFailure(rank, 1, LostRankError.exit_code, "") for rank in order}
        raise ChildFailedError("rank.py", lost)

    monkeypatch.setattr("torch.distributed.run.run", end)
    with pytest.raises(LostRankError, match=re.escape("rank 0 of 2 failed (exit code 13); what it said is above")):
        start("")


def test_a_bug_of_the_first_rank_shows_its_traceback(start, capfd):
    with pytest.raises(LostRankError, match=r"rank 0 of 2 failed \(ValueError: .*\); what it said is above"):
        start("int('x') if rank == 0 else time.sleep(60)")
    assert "Traceback (most recent call last)" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_all_ranks_and_then_this_process(start, number):
    received = []
    before = signal.signal(number, lambda number, _: received.append(number))
    try:
        start(f"rank and os.kill(os.getppid(), {int(number)}); time.sleep(60)")
    finally:
        signal.signal(number, before)
    assert received == [number]
    assert sys.exc_info() == (None, None, None)


LISTENING = "listen(); meet('listening'); "
SAVING = """
listen()
with held():
    meet('holding')
    if rank == 1:
        os.kill(os.getppid(), signal.{name})
    deadline = time.monotonic() + 60
    while received() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(rank / 2)
    raise StoppedError(f"saved by {{rank}} after {{received()}}")
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_ranks_that_a_signal_stops_save_first_and_their_first_one_is_heard(start, name):
    with pytest.raises(StoppedError, match=f"^saved by 0 after {name}$") as told:
        start(SAVING.format(name=name))
    assert told.value.exit_code == 14


@pytest.mark.parametrize(
    ("end", "message", "code"),
    [
        ("os.kill(os.getpid(), 9)", "rank 1 of 2 was killed by signal 9", 13),
        ("raise ScoreError('batch 3')", "batch 3", 7),
    ],
)
def test_ranks_that_are_stopped_because_another_failed_do_not_hide_why(start, end, message, code):
    with pytest.raises(ObaError, match=f"^{message}") as told:
        start(f"{LISTENING}\nif rank == 1:\n    {end}\ntime.sleep(60)")
    assert told.value.exit_code == code


def test_one_rank_that_a_signal_stopped_stops_the_job(start):
    with pytest.raises(StoppedError, match=r"^stopped by SIGTERM; the same command goes on from what was saved$"):
        start(LISTENING + "rank and os.kill(os.getpid(), 15); time.sleep(60)")


def test_a_second_signal_ends_at_once_and_the_ranks_too(tmp_path):
    program = """
from pathlib import Path
from oba.training.launch import launch
launch(2, ["rank.py", "listen(); open(f'{rank}.ready', 'w').close(); h = held(); h.__enter__(); time.sleep(60)"],
       log=Path("logs/job.log"))
"""
    (tmp_path / "rank.py").write_text(RANK)
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path) as process:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("*.ready"))) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        time.sleep(BURST + 0.2)
        children = psutil.Process(process.pid).children()
        assert len(children) == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == -signal.SIGTERM
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive


def test_a_rank_whose_starter_is_gone_does_not_begin():
    program = "from oba.training.launch import follow; follow(); print('begins')"
    environment = os.environ | {ranks.LAUNCHER: "999999999", "RANK": "0", "WORLD_SIZE": "2"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (13, "", "")


LISTENERS = """
import psutil
with ranks.connected(cuda=False):
    ranks.barrier()
    if rank == 0:
        starter = psutil.Process().parent()
        for process in (starter, *starter.children()):
            for connection in process.net_connections():
                if connection.status == psutil.CONN_LISTEN:
                    print("listens", connection.laddr.ip, flush=True)
    ranks.barrier()
"""


def test_nothing_listens_where_other_machines_could_connect(start, capfd):
    start(LISTENERS)
    told = [line for line in capfd.readouterr().out.splitlines() if line.startswith("listens ")]
    assert len(told) >= 2, "both ranks wait for the other"
    assert set(told) == {"listens 127.0.0.1"}


def test_a_process_that_is_no_rank_follows_nobody():
    program = "from oba.training.launch import follow, is_followed; follow(); print(is_followed())"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False\n"
