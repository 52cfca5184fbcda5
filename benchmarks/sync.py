"""What ``oba sync`` costs when MLflow has everything already: many journals, one SQLite store.

One stage is run and sent; its journal, cursor and run are then copied under as many names as asked for. Timed is the
whole command, from the start of Python to its end; seconds of a core tell what a busy machine hides.
"""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from command import argument_parser, write_figures

from oba.tracking import RunIdentity, resolve_uri, stage_run
from oba.tracking.cursor import Cursor, cursor_path, read_cursor
from oba.tracking.journal import read_attempt
from oba.tracking.lines import seal, unseal

EXPERIMENT = "many"


def main() -> None:
    """Parse the command line and print the times."""
    parser = argument_parser(__doc__)
    parser.add_argument("--journals", type=int, default=45_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        _send_many(results, options.journals)
        command = [sys.executable, "-m", "oba", "sync", "--results", str(results)]
        seconds, of_a_core = [], []
        for _ in range(options.rounds):
            started, used = time.perf_counter(), _core_seconds()
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds.append(time.perf_counter() - started)
            of_a_core.append(_core_seconds() - used)
            assert done.stdout.startswith(f"0 of {options.journals} runs sent"), done.stdout
    print(
        f"{options.journals} journals, all sent: {min(seconds):.1f} to {max(seconds):.1f} s, "
        f"{min(of_a_core):.1f} s of a core"
    )
    write_figures(options, {"seconds": seconds, "core_seconds": of_a_core})


def _core_seconds() -> float:
    """Return the time that finished child processes spent on a core."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _send_many(results: Path, count: int) -> None:
    """Fill a folder of results and a store with a number of finished stages."""
    uri, first = resolve_uri(None, results), _journal(results, 0)
    chain = RunIdentity(EXPERIMENT, "chain", "chain")
    identity = RunIdentity(EXPERIMENT, "stage", "stage", chain)
    with stage_run(first, identity, uri=uri, results_dir=results) as run:
        run.params({f"setting{number}": number for number in range(30)})
        for epoch in range(1, 31):
            run.metrics({"train_loss": 1 / epoch, "val_top1": 1 - 1 / epoch}, step=epoch)
        run.chain_metrics({"test_top1": 0.5}, step=30)
    cursor = read_cursor(first)
    assert cursor is not None, "the stage was not sent"
    lines = first.read_bytes().splitlines()
    runs = [uuid.uuid4().hex for _ in range(count - 1)]
    for number, run_id in enumerate(runs, 1):
        _copy(lines, cursor, _journal(results, number), f"stage{number:06d}", run_id)
    assert read_attempt(_journal(results, count - 1)) is not None
    with closing(sqlite3.connect(results / "mlflow.db")) as database:
        database.row_factory = sqlite3.Row
        row = dict(database.execute("SELECT * FROM runs WHERE run_uuid = ?", [cursor.run]).fetchone())
        marks = ", ".join("?" for _ in row)
        copies = ([*(row | {"run_uuid": run_id}).values()] for run_id in runs)
        database.executemany(f"INSERT INTO runs ({', '.join(row)}) VALUES ({marks})", copies)
        database.commit()


def _journal(results: Path, number: int) -> Path:
    """Return where the journal of a stage lies: nine for each chain of a sweep."""
    chain, stage = divmod(number, 9)
    level, kind = divmod(stage, 3)
    at = results / EXPERIMENT / "journal" / "resnet8" / f"seed{chain % 10}" / f"method{chain // 10}-iterative"
    return at / f"keep0.{level + 3}0" / f"stage{kind}" / "run.jsonl"


def _copy(lines: list[bytes], cursor: Cursor, path: Path, key: str, run: str) -> None:
    """Write a journal under another key, and a cursor that says that it was sent to another run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    start, _ = unseal(lines[0])
    assert start is not None
    start["identity"]["key"] = key
    content = b"\n".join([seal(start), *lines[1:], b""])
    path.write_bytes(content)
    copied = asdict(cursor) | {"run": run, "key": key, "offset": len(content)}
    cursor_path(path).write_bytes(seal(copied) + b"\n")


if __name__ == "__main__":
    main()
