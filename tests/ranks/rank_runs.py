"""Real ranks for tests: processes that speak with each other by gloo."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from oba import ranks

Found = dict[str, torch.Tensor]
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MEETINGS = tempfile.TemporaryDirectory(prefix="ranks-")
"""Where the ranks of all jobs meet; it goes with this process."""


def start_ranks(command: Sequence[str], count: int = 2) -> list[subprocess.Popen[str]]:
    """Start a command as the ranks of one job."""
    path = os.pathsep.join(map(str, (ROOT, HERE, HERE.parent / "importance")))
    shared = {"WORLD_SIZE": str(count), ranks.MEETING: tempfile.mkdtemp(dir=MEETINGS.name)}
    shared |= {ranks.LAUNCHER: str(os.getpid()), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def run_ranks(command: Sequence[str], count: int = 2) -> list[str]:
    """Run a command as the ranks of one job; return what each printed."""
    processes = start_ranks(command, count)
    printed = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0] * count, "\n".join(err for _, err in printed)
    return [out for out, _ in printed]


def found_by_one(everything: Callable[[Path], Found], folder: Path) -> Found:
    """Return what one rank finds, with one thread as each of several ranks has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = everything(folder)
    torch.set_num_threads(threads)
    return found


def found_by_two(script: str, folder: Path) -> tuple[Found, Found]:
    """Return what each of two ranks finds that run a script of this folder."""
    run_ranks([str(HERE / script), str(folder)])
    return torch.load(folder / "0.pt"), torch.load(folder / "1.pt")


def save_found(everything: Callable[[Path], Found]) -> None:
    """Leave what a rank finds, for the test that started it."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    with ranks.connected(cuda=False):
        torch.save(everything(folder / "state"), folder / f"{ranks.rank()}.pt")
