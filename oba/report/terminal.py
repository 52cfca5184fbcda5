"""What a finished run prints: the summary, where its files are, and how to open the MLflow UI."""

from __future__ import annotations

import io
import shlex
import socket
from pathlib import Path

from rich.console import Console

from oba.addresses import has_credentials, redacted
from oba.report.collect import read_runs
from oba.report.summarize import read_summary
from oba.report.table import print_table

_COLUMNS = 100
_PORT = 5000
"""What `mlflow ui` takes if it is not told."""
_PAGE = {"index.html": "everything, to be opened in a browser"}
_PICTURES = {
    "tradeoff.png": "test accuracy against what is kept",
    "channels.png": "what is kept of every layer",
    "curves.png": "accuracy and loss while training",
}
_TABLES = {"summary.md": "this table, with the pictures", "summary.csv": "means over seeds", "runs.csv": "every net"}


def closing_text(directory: Path, mlflow_uri: str, charts: str = "") -> str:
    """Return what a finished run has to say.

    Args:
        directory: The directory of the report, as :func:`oba.report.build.build_report` left it.
        mlflow_uri: The tracking server, or the store that the runs are mirrored to; a password in it is not shown.
        charts: Where the MLflow UI draws the sweep: what follows the server's address.

    Returns:
        The summary table with its notes, then one line per file of the report and the command that opens the MLflow
        UI; plain text for 100 columns.
    """
    stream = io.StringIO()
    console = Console(file=stream, width=_COLUMNS, color_system=None, force_terminal=False)
    print_table(read_summary(directory / "summary.csv"), read_runs(directory / "runs.csv"), console)
    files = {directory / name: what for name, what in (_PAGE | _TABLES | _PICTURES).items()}
    width = max(len(str(path)) for path in files)
    lines = [f"  {str(path).ljust(width)}  {what}" for path, what in files.items()]
    table = [line.rstrip() for line in stream.getvalue().rstrip().splitlines()]
    return "\n".join([
        *table,
        "",
        "Report",
        *lines,
        "",
        "MLflow",
        *(f"  {line}" for line in _open(mlflow_uri, charts)),
        "",
    ])


def _open(uri: str, charts: str) -> list[str]:
    """Return how to see the runs of a tracking server or store."""
    if uri.startswith(("http://", "https://")):
        return [f"open {_page(redacted(uri), charts)}"]
    # Only the environment may hold a password.
    store = '"$MLFLOW_TRACKING_URI"' if has_credentials(uri) else shlex.quote(uri)
    port = _free_port()
    return [
        f"mlflow ui --host 127.0.0.1 --port {port} --backend-store-uri {store}",
        f"then open {_page(f'http://127.0.0.1:{port}', charts)}",
    ]


def _page(server: str, charts: str) -> str:
    """Return the address of the charts, or how to find them."""
    return f"{server.rstrip('/')}/{charts}" if charts else f"{server} and choose Model training, at the top left"


def _free_port() -> int:
    """Return a port that nobody listens on: on one that is taken, `mlflow ui` ends without a word."""
    for port in range(_PORT, _PORT + 100):
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    return _PORT
