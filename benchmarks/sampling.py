"""What a sample of the machine's load costs a stage: processor time, and bytes of its journal (docs/tracking.md).

Run ``python benchmarks/sampling.py``.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from command import argument_parser, write_figures

from oba.tracking import RunIdentity
from oba.tracking.journal import Journal
from oba.tracking.names import numbers
from oba.tracking.system import Sampler


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__)
    parser.add_argument("--samples", type=int, default=2000, help="how many")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "run.jsonl"
        journal = Journal(path)
        journal.start(RunIdentity("experiment", "stage", "stage"))
        before, counted = path.stat().st_size, [0]

        def report(values: dict[str, float], number: int) -> None:
            journal.write("metrics", step=number, values=numbers(values))
            counted[0] = number + 1

        sampler = Sampler(report, 0, 1e-6)  # pyright: ignore[reportArgumentType]
        while counted[0] < 10:  # the imports are over
            time.sleep(0.01)
        started, first = time.process_time(), counted[0]
        while counted[0] < first + options.samples:
            time.sleep(0.05)
        taken, of = time.process_time() - started, counted[0] - first
        sampler.stop()
        size = (path.stat().st_size - before) / counted[0]
    print(f"{1000 * taken / of:.2f} ms of a core and {size:.0f} bytes for each of {of:,} samples")
    write_figures(options, {"milliseconds": 1000 * taken / of, "bytes": size})


if __name__ == "__main__":
    main()
