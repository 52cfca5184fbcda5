"""Links into MLflow's pages."""

from __future__ import annotations

import os
from pathlib import Path

from oba.addresses import redacted
from oba.tracking.cursor import read_cursor

VIEW = "oba-chains"
"""The saved view of all chains, which :func:`oba.stages.descriptions.experiment_tags` describes."""


def charts(experiment: str) -> str:
    """Return the place of the charts of all chains.

    Args:
        experiment: The experiment's id.

    Returns:
        What follows a server's address.
    """
    # The page opens for language models otherwise; of a view it takes the table, not the charts.
    return (
        f"#/experiments/{experiment}/runs?viewStateShareKey={VIEW}&compareRunsMode=CHART&workflowType=machine_learning"
    )


def charts_of(folder: Path, uri: str) -> str:
    """Return the place of the charts of an experiment's chains without asking anybody.

    Args:
        folder: The folder of the experiment's journals.
        uri: The tracking server or store.

    Returns:
        What follows the server's address; nothing if no journal was sent there yet.
    """
    for at, _, names in os.walk(folder):
        for name in names:
            cursor = read_cursor(Path(at) / name.removesuffix(".sent")) if name.endswith(".sent") else None
            if cursor and cursor.store == redacted(uri) and cursor.experiment:
                return charts(cursor.experiment)
    return ""
