"""Real ranks for tests: processes that speak with each other by gloo."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from oba import ranks

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def start_ranks(command: Sequence[str], count: int = 2) -> list[subprocess.Popen[str]]:
    """Start a command as the ranks of one job."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    path = os.pathsep.join(map(str, (ROOT, HERE, HERE.parent / "importance")))
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
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
