"""What runs are in MLflow, and how they are found again.

Runs are found by their tag ``stage_key``; a stage that was begun anew has another ``stage_attempt``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from oba.errors import TrackingError
from oba.tracking.connection import Connection
from oba.tracking.journal import RunIdentity, now_ms
from oba.tracking.limits import batches, clean_tags
from oba.tracking.uri import is_database

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run

KEY, ATTEMPT, PARENT, SUPERSEDED = "stage_key", "stage_attempt", "mlflow.parentRunId", "superseded_by"
_logger = logging.getLogger(__name__)


class Store:
    """Experiments and runs of one tracking server or store."""

    def __init__(self, connection: Connection) -> None:
        """Look at the store behind a connection.

        Args:
            connection: The connection; artifacts of a database's runs go to ``mlartifacts`` in its results.
        """
        self.connection = connection
        self._call = connection.call
        self._experiments: dict[str, str] = {}
        self._foreign: set[str] = set()

    def experiment(self, name: str) -> str:
        """Find or create an experiment.

        Args:
            name: Its name.

        Returns:
            Its id.

        Raises:
            TrackingError: If it was deleted in MLflow.
        """
        if name not in self._experiments:
            found = self._call("get_experiment_by_name", name) or self._create_experiment(name)
            if found.lifecycle_stage == "deleted":
                raise TrackingError(
                    f"{self.connection.name}: the experiment {name!r} was deleted; allowed: "
                    f"`mlflow experiments restore --experiment-id {found.experiment_id}`, or another name"
                )
            self._experiments[name] = found.experiment_id
            self._check_location(name, found.experiment_id, found.artifact_location)
        return self._experiments[name]

    def runs(self, identity: RunIdentity) -> list[Run]:
        """Find all runs of a stage or chain, deleted ones too.

        Args:
            identity: The run.

        Returns:
            The newest first, with parameters, tags and latest metrics.
        """
        from mlflow.entities import ViewType

        experiment, wanted = self.experiment(identity.experiment), f"tags.{KEY} = '{identity.key}'"
        return self._call("search_runs", [experiment], filter_string=wanted, run_view_type=ViewType.ALL)

    def create(self, identity: RunIdentity, *, started: int, tags: Mapping[str, str]) -> Run:
        """Create a run.

        Args:
            identity: The run.
            started: Its start, in milliseconds.
            tags: Tags besides the key.

        Returns:
            The run, RUNNING.
        """
        experiment = self.experiment(identity.experiment)
        tags = {KEY: identity.key, **tags}
        return self._call("create_run", experiment, start_time=started, tags=tags, run_name=identity.name)

    def chain(self, identity: RunIdentity) -> Run | None:
        """Find or create the parent run of a chain.

        Args:
            identity: The parent.

        Returns:
            The run, or ``None`` if somebody deleted it in MLflow.
        """
        found = self.runs(identity)
        if not found:
            with self.connection.exclusive():
                found = self.runs(identity)
                if not found:
                    return self.create(identity, started=now_ms(), tags=clean_tags(identity.tags))
        return next((run for run in found if run.info.lifecycle_stage == "active"), None)

    def log(
        self,
        run_id: str,
        *,
        metrics: Sequence[tuple[str, float, int, int]] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log in as few calls as the limits of MLflow allow.

        Args:
            run_id: The run.
            metrics: Name, value, time in milliseconds and step of each.
            params: Parameters.
            tags: Tags.
        """
        from mlflow.entities import Metric, Param, RunTag

        entries = [("params", Param(*pair)) for pair in (params or {}).items()]
        entries += [("tags", RunTag(*pair)) for pair in (tags or {}).items()]
        entries += [("metrics", Metric(*point)) for point in metrics]
        for batch in batches(entries):
            self._call("log_batch", run_id, **batch)

    def history(self, run: Run, keys: set[str]) -> dict[tuple[str, int], float]:
        """Return what a run has of some metrics.

        Args:
            run: The run as it was found.
            keys: Names of metrics.

        Returns:
            The latest value of each name and step.
        """
        known = sorted(keys & run.data.metrics.keys())
        points = [point for key in known for point in self._call("get_metric_history", run.info.run_id, key)]
        return {(point.key, point.step): point.value for point in sorted(points, key=lambda point: point.timestamp)}

    def upload(self, run: Run, path: Path, folder: str | None) -> bool:
        """Upload an artifact.

        Args:
            run: The run.
            path: The file, absolute.
            folder: Folder among the run's artifacts.

        Returns:
            Whether it could be sent: its experiment's artifacts are not kept elsewhere on this machine.
        """
        if run.info.experiment_id in self._foreign:
            return False
        self._call("log_artifact", run.info.run_id, str(path), folder)
        return True

    def set_status(self, run_id: str, status: str, when: int) -> None:
        """Set the status of a run.

        Args:
            run_id: The run.
            status: ``RUNNING``, ``FINISHED``, ``FAILED`` or ``KILLED``.
            when: The end in milliseconds, for the last three.
        """
        if status == "RUNNING":
            self._call("update_run", run_id, status=status)
        else:
            self._call("set_terminated", run_id, status, when)

    def ping(self) -> None:
        """Make one small call, to learn whether the store answers at all."""
        self._call("search_experiments", max_results=1)

    def _create_experiment(self, name: str) -> Experiment:
        """Create an experiment, unless another process was faster."""
        with self.connection.exclusive():
            found = self._call("get_experiment_by_name", name)
            if found is not None:
                return found
            root = self.connection.results / "mlartifacts" / name
            self._call("create_experiment", name, root.as_uri() if is_database(self.connection.uri) else None)
            return self._call("get_experiment_by_name", name)

    def _check_location(self, name: str, experiment: str, location: str) -> None:
        """Remember experiments of a database whose artifacts would be written outside the results."""
        parts = urlsplit(location)
        outside = not Path(unquote(parts.path)).is_relative_to(self.connection.results)
        if is_database(self.connection.uri) and parts.scheme in {"", "file"} and outside:
            self._foreign.add(experiment)
            _logger.warning(
                "artifacts of the MLflow experiment %r belong to %s, outside %s: they are not sent",
                name,
                location,
                self.connection.results,
            )
