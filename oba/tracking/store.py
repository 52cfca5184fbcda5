"""What runs are in MLflow, and how they are found again.

Runs are found by their tag ``stage_key``; another attempt at a stage or chain has another ``stage_attempt``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from oba.errors import TrackingError
from oba.tracking.connection import Connection
from oba.tracking.events import Points, RunIdentity
from oba.tracking.limits import batches
from oba.tracking.uri import is_database

if TYPE_CHECKING:
    from mlflow.entities import Experiment, LoggedModel, Run

KEY, ATTEMPT, PARENT = "stage_key", "stage_attempt", "mlflow.parentRunId"
SUPERSEDED, REVIVED = "superseded_by", "revived"
_CONTEXT = "mlflow.data.context"
_logger = logging.getLogger(__name__)


def is_current(run: Run) -> bool:
    """Return whether a run was neither replaced nor deleted."""
    return run.info.lifecycle_stage == "active" and SUPERSEDED not in run.data.tags


def _worth(run: Run) -> tuple[bool, bool, int, str]:
    """Return by what runs of one attempt are compared: those that people see, and those that have more, come first."""
    size = len(run.data.metrics) + len(run.data.params) + len(run.data.tags)
    return run.info.lifecycle_stage == "active", is_current(run), size, run.info.run_id


class Store:
    """Experiments and runs of one tracking server or store."""

    def __init__(self, connection: Connection) -> None:
        """Look at the store behind a connection; a database's artifacts go to ``mlartifacts`` in its results."""
        self.connection = connection
        self._call = connection.call
        self._experiments: dict[str, Experiment] = {}
        self._foreign: set[str] = set()

    def experiment(self, name: str) -> Experiment:
        """Find or create an experiment, unless it was deleted in MLflow."""
        if name not in self._experiments:
            found = self._call("get_experiment_by_name", name) or self._create_experiment(name)
            if found.lifecycle_stage == "deleted":
                raise TrackingError(
                    f"{self.connection.name}: the experiment {name!r} was deleted; allowed: "
                    f"`mlflow experiments restore --experiment-id {found.experiment_id}`, or another name"
                )
            self._experiments[name] = found
            self._check_location(name, found.experiment_id, found.artifact_location)
        return self._experiments[name]

    def runs(self, identity: RunIdentity) -> list[Run]:
        """Find all runs of a stage or chain, deleted ones too; the newest first. Twins are closed."""
        return self.runs_of(self.experiment(identity.experiment).experiment_id, identity.key)

    def runs_of(self, experiment: str, key: str) -> list[Run]:
        """Find all runs of a key in an experiment, given by its id, as :meth:`runs` does."""
        from mlflow.entities import ViewType

        options = {"filter_string": f"tags.{KEY} = '{key}'", "run_view_type": ViewType.ALL}
        return self._without_twins(self._call("search_runs", [experiment], **options))

    def _without_twins(self, runs: Sequence[Run]) -> list[Run]:
        """Of runs that one call created, keep the one that has the most, and close the others."""
        # A server that answers late is asked again and may create a run twice; nobody would ever end the second.
        groups: dict[tuple[str, int], list[Run]] = {}
        for run in runs:
            groups.setdefault((run.data.tags.get(ATTEMPT, run.info.run_id), run.info.start_time), []).append(run)
        kept = [max(group, key=_worth) for group in groups.values()]
        for group, best in zip(groups.values(), kept, strict=True):
            for twin in group:
                if twin is not best and is_current(twin):
                    self._close_twin(twin, best)
        return kept

    def _close_twin(self, twin: Run, best: Run) -> None:
        """Delete a run that was created by mistake; one with points is superseded, lest anything be lost."""
        if twin.data.metrics:
            self.supersede(twin, best, twin.info.start_time)
        else:
            self._call("delete_run", twin.info.run_id)

    def running(self, experiment: str) -> list[Run]:
        """Find the runs of an experiment, by its id, that have not ended."""
        asked = {"filter_string": "attributes.status = 'RUNNING'", "max_results": 1000}
        page = self._call("search_runs", [experiment], **asked)
        found = [*page]
        while page.token:
            page = self._call("search_runs", [experiment], **asked, page_token=page.token)
            found += page
        return found

    def experiments(self, numbers: Collection[str]) -> dict[str, int]:
        """Return when each of some experiments, given by their ids, was created; without those that are not there."""
        from mlflow.entities import ViewType

        found, page = {}, None
        while page is None or page.token:
            token = page.token if page else None
            page = self._call("search_experiments", view_type=ViewType.ALL, max_results=1000, page_token=token)
            found |= {entry.experiment_id: entry.creation_time for entry in page if entry.experiment_id in numbers}
        return found

    def create(self, identity: RunIdentity, *, started: int, tags: Mapping[str, str]) -> Run:
        """Create a run that started at a time in milliseconds, with tags besides the key; its status is RUNNING."""
        experiment = self.experiment(identity.experiment)
        tags = {KEY: identity.key, **tags}
        return self._call("create_run", experiment.experiment_id, start_time=started, tags=tags, run_name=identity.name)

    def children(self, run: Run) -> list[Run]:
        """Find the runs shown under a run, without deleted ones."""
        shown = f"tags.`{PARENT}` = '{run.info.run_id}'"
        return self._call("search_runs", [run.info.experiment_id], filter_string=shown)

    def supersede(self, old: Run, new: Run, when: int) -> None:
        """Mark a run and its models as replaced by another one, and end it, at a time in milliseconds, if need be."""
        for model in self.models(old):
            self._call("set_logged_model_tags", model.model_id, {SUPERSEDED: new.info.run_id})
        self.log(old.info.run_id, tags={SUPERSEDED: new.info.run_id})
        if old.info.status == "RUNNING":
            self.set_status(old.info.run_id, "KILLED", when)

    def revive(self, run: Run, when: int) -> None:
        """Take back that a run was replaced, at a time in milliseconds."""
        self.log(run.info.run_id, tags={REVIVED: str(when)})
        self._call("delete_tag", run.info.run_id, SUPERSEDED)

    def log(
        self,
        run_id: str,
        *,
        metrics: Sequence[tuple[str, float, int, int]] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        model: str | None = None,
        data: tuple[str, str] | tuple[None, None] = (None, None),
    ) -> None:
        """Log in as few calls as MLflow's limits allow; a metric is a name, value, time in milliseconds and step.

        Metrics are those of a logged model as well, if its id is given, on data with a name and digest.
        """
        from mlflow.entities import Metric, Param, RunTag

        entries = [("params", Param(*pair)) for pair in (params or {}).items()]
        entries += [("tags", RunTag(*pair)) for pair in (tags or {}).items()]
        more = {"model_id": model, "dataset_name": data[0], "dataset_digest": data[1]}
        entries += [("metrics", Metric(*point, **more)) for point in metrics]
        for batch in batches(entries):
            self._call("log_batch", run_id, **batch)

    def history(self, run: Run, keys: Collection[str]) -> Points:
        """Return the latest point of each step that a run, as it was found, has of some metrics."""
        known = [key for key in run.data.metrics if key in keys]
        points = [point for key in known for point in self._call("get_metric_history", run.info.run_id, key)]
        points.sort(key=lambda point: point.timestamp)
        return {(point.key, point.step): (point.value, point.timestamp) for point in points}

    def upload(self, run: Run, path: Path, folder: str | None) -> bool:
        """Upload a file, unless its experiment's artifacts are kept elsewhere on this machine; say whether."""
        if self.keeps_elsewhere(run):
            return False
        self._call("log_artifact", run.info.run_id, str(path), folder)
        return True

    def models(self, run: Run) -> list[LoggedModel]:
        """Find the models that a run left, without deleted ones; the oldest first."""
        made = f"source_run_id = '{run.info.run_id}'"
        found = self._call("search_logged_models", [run.info.experiment_id], filter_string=made)
        return sorted(found, key=lambda model: (model.creation_timestamp, model.model_id))

    def use_dataset(self, run: Run, dataset: Mapping[str, Any]) -> None:
        """Show what data a run reads, given by the fields of its event; MLflow keeps it once."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        shown = Dataset(
            name=dataset["name"],
            digest=dataset["digest"],
            source_type="local",
            source=json.dumps({"uri": dataset["source"]}),
            profile=json.dumps(dataset["profile"]),
        )
        tags = [InputTag(_CONTEXT, dataset["context"])]
        self._call("log_inputs", run.info.run_id, [DatasetInput(shown, tags)])

    def keeps_elsewhere(self, run: Run) -> bool:
        """Tell whether the artifacts of a run's experiment are kept elsewhere on this machine."""
        return run.info.experiment_id in self._foreign

    def set_status(self, run_id: str, status: str, when: int) -> None:
        """Set a run's status; ``when`` is its end in milliseconds, unless it is RUNNING."""
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
