"""Seconds that a run loses to a tracking server that is dead, or that accepts calls and never answers them.

Timed are the parts of a run that meet the server: the set-up before the jobs, two stages one after the other that
report an epoch at a time, and the sending at the end, each in a process of its own, without the start of Python.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile

from command import argument_parser, write_figures

PARTS = ("begin", "first stage", "second stage", "end")
PART = """
import logging, sys, time
from pathlib import Path
from oba.errors import TrackingError
from oba.tracking import RunIdentity, begin, stage_run, sync

logging.disable()
part, uri, results = sys.argv[1], sys.argv[2], Path(sys.argv[3])
journal = results / f"{part}.jsonl"
started = time.perf_counter()
if part == "begin":
    begin("exp", uri, results)
elif part == "end":
    try:
        sync([results / "first stage.jsonl"], uri, results)
    except TrackingError:
        pass
else:
    with stage_run(journal, RunIdentity("exp", part, part), uri=uri, results_dir=results, every=0) as run:
        for epoch in range(20):
            run.metrics({"loss": 1.0}, step=epoch)
print(time.perf_counter() - started)
"""


def main() -> None:
    """Print the seconds of every part."""
    options = argument_parser(__doc__).parse_args()
    figures = {}
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as dead:
        # Bound and not listening: connections are refused.
        dead.bind(("127.0.0.1", 0))
        for name, listener in (("dead", dead), ("silent", silent)):
            figures[name] = _parts(f"http://127.0.0.1:{listener.getsockname()[1]}")
            told = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in figures[name].items())
            print(f"{name}: {told}")
    write_figures(options, figures)


def _parts(uri: str) -> dict[str, float]:
    """Time the parts of one run."""
    with tempfile.TemporaryDirectory() as results:
        command = [sys.executable, "-c", PART]
        return {part: float(subprocess.check_output([*command, part, uri, results], text=True)) for part in PARTS}


if __name__ == "__main__":
    main()
