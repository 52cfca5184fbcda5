"""The closing table of a study, where a run finds nothing to do."""

from __future__ import annotations

import subprocess
import sys

from oba.jobs import Jobs


def closing_table(jobs: Jobs) -> str:
    """Return what `oba show` prints; empty where there is no report.

    In a process of its own: it needs much that a run of Snakemake does not.

    Args:
        jobs: The jobs of the study.

    Returns:
        Its lines.
    """
    layout = jobs.layout
    if not (layout.report / "summary.md").exists():
        return ""
    command = [sys.executable, "-m", "oba", "show", "--study", str(layout.study)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout + done.stderr
