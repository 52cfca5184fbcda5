"""A real SLURM for all tests of this folder, started once."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from lab import Lab, refusal  # noqa: E402
from submitted import Submission  # noqa: E402


@pytest.fixture(scope="session")
def started_slurm():
    """The daemons of one machine, until the end of the tests."""
    if reason := refusal():
        # Where the tests must not be passed over, missing packages are a failure.
        (pytest.fail if os.environ.get("OBA_REQUIRE_ALL") else pytest.skip)(f"no SLURM: {reason}")
    # The machine can have one at a time. Its folder must be open to munge's user, which those of pytest are not.
    with FileLock("/tmp/oba-tests-slurm.lock"), tempfile.TemporaryDirectory(prefix="oba-slurm-") as name:
        lab = Lab(Path(name))
        try:
            lab.start()
            yield lab
        finally:
            lab.stop()


@pytest.fixture
def slurm(started_slurm):
    """A SLURM with nothing in its queue."""
    yield started_slurm
    started_slurm.cancel_all()


@pytest.fixture
def submit(slurm, project):
    """Return a function that starts a study on the cluster, in a fresh copy of the project."""
    started = []

    def start(*options: str, **study) -> Submission:
        started.append(Submission(slurm, project, options, study))
        return started[-1]

    yield start
    for submission in started:
        submission.kill()
