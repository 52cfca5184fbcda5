"""What a run does that finds nothing to do: send MLflow what a killed run could not, and show the table."""

from __future__ import annotations

import subprocess
import sys

from oba.jobs import Jobs


def closing_table(jobs: Jobs) -> str:
    """Send to MLflow what an earlier run left, and return what `oba show` prints.

    In processes of their own: they need much that a run of Snakemake does not.

    Args:
        jobs: The jobs of the study.

    Returns:
        Their lines; no table where there is no report.
    """
    layout = jobs.layout
    commands = ["end", "show"] if (layout.report / "summary.md").exists() else ["end"]
    done = [
        subprocess.run(
            [sys.executable, "-m", "oba", command, "--study", str(layout.study)], capture_output=True, text=True
        )
        for command in commands
    ]
    return "".join(process.stdout + process.stderr for process in done)
