"""Nets as MLflow's logged models: one for each run that reports one, found again by that run.

A model is made in the steps create, link to its run, measures, files, ready; each is looked for before it is done, so a
process that was killed between two of them does no harm. Its files are uploaded by ``oba sync`` alone, never by a
stage, which may not spend its time on them.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from oba.tracking.events import Event
from oba.tracking.names import SYSTEM
from oba.tracking.store import ATTEMPT, KEY, Store

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run

_NOTE = "mlflow.note.content"
_EXTERNAL = "mlflow.model.isExternal"
"""MLflow's own word for a model whose files are elsewhere."""


class NetModel:
    """The logged model of one run."""

    def __init__(self, store: Store, run: Run, events: Sequence[Event]) -> None:
        """Look at a run, as it was found in an open store, and its events, of which one or more report the net."""
        self._store, self._run = store, run
        self._event = next(event for event in reversed(events) if event.kind == "model")
        read = next((event.fields for event in events if event.kind == "dataset"), None)
        self.data = (read["name"], read["digest"]) if read else (None, None)
        self._call = store.connection.call
        self._linked = {output.model_id for output in run.outputs.model_outputs} if run.outputs else set()

    def create(self) -> str | None:
        """Find the model, or create it; return its id, or nothing if somebody deleted it."""
        found = self._one_of(self._store.models(self._run))
        if found is None:
            if self._linked:
                return None
            tags = {KEY: self._run.data.tags[KEY], ATTEMPT: self._run.data.tags[ATTEMPT], "files": self._place}
            tags |= {} if self._event.fields["files"] else {_EXTERNAL: "true"}
            self._call(
                "create_logged_model",
                self._run.info.experiment_id,
                name=self._event.fields["name"],
                source_run_id=self._run.info.run_id,
                params=self._event.fields["values"],
                tags=tags,
                model_type="image classifier",
            )
            # Asked, not believed: a call that a server answered late was repeated.
            found = self._one_of(self._store.models(self._run))
            assert found is not None
        if found.model_id not in self._linked:
            self._link(found.model_id)
        return found.model_id

    def finish(self, points: Sequence[tuple[str, int]]) -> int | None:
        """Link the run's points, of which the model may lack some, and upload the files.

        Args:
            points: Names and steps of the run's points.

        Returns:
            The number of files sent; nothing if some are gone.
        """
        model = self._one_of(self._store.models(self._run))
        if model is None:
            return 0
        had = {(metric.key, metric.step) for metric in model.metrics or ()}
        lacking = {place for place in points if place not in had and not place[0].startswith(SYSTEM)}
        if lacking:
            self._repeat(model.model_id, lacking)
        if str(model.status) == "READY":
            return 0
        return self._upload(model)

    @property
    def _place(self) -> str:
        """Where the net's own files are, as far as this machine knows."""
        return str(self._store.connection.results / self._event.fields["folder"])

    def _one_of(self, models: Sequence[LoggedModel]) -> LoggedModel | None:
        """Keep one of several models that one call created: the one that is linked, else the oldest."""
        kept = next((model for model in models if model.model_id in self._linked), next(iter(models), None))
        for model in models:
            if model is not kept:
                self._call("delete_logged_model", model.model_id)
        return kept

    def _link(self, model: str) -> None:
        """Show the model on its run's page."""
        from mlflow.entities import LoggedModelOutput

        self._call("log_outputs", self._run.info.run_id, [LoggedModelOutput(model, step=0)])
        self._linked = {model}

    def _repeat(self, model: str, lacking: set[tuple[str, int]]) -> None:
        """Report points of the run for the model, exactly as the run has them: MLflow keeps each once."""
        run = self._call("get_run", self._run.info.run_id)
        points = self._store.history(run, {key for key, _ in lacking})
        again = [(key, v, t, step) for (key, step), (v, t) in points.items() if (key, step) in lacking]
        self._store.log(run.info.run_id, metrics=again, model=model, data=self.data)

    def _upload(self, model: LoggedModel) -> int | None:
        """Upload what loads the net, then say that the model is ready."""
        files = [self._store.connection.results / name for name in self._event.fields["files"]]
        if not all(path.exists() for path in files):
            return None
        if self._store.keeps_elsewhere(self._run):
            files = []
        for path in files:
            self._call("log_model_artifact", model.model_id, str(path))
        if not self._store.keeps_elsewhere(self._run):
            with TemporaryDirectory() as folder:
                described = Path(folder) / "MLmodel"
                # MLflow reads YAML, of which JSON is a part.
                described.write_text(json.dumps(self._described(model, whole=bool(files)), indent=1))
                self._call("log_model_artifact", model.model_id, str(described))
        self._call("set_logged_model_tags", model.model_id, {_NOTE: self._note(model.model_id, whole=bool(files))})
        self._call("finalize_logged_model", model.model_id, "READY")
        return len(files)

    def _note(self, model: str, *, whole: bool) -> str:
        """Say how to load the net, in Markdown."""
        lines = [f"Files: `{self._place}/`", "", "```python"]
        if whole:
            lines += ["import mlflow", "", "# takes images of shape (N, C, H, W) in [0, 1], returns logits"]
            lines += [f'net = mlflow.pyfunc.load_model("models:/{model}")', ""]
        lines += ["import oba", "", "# an nn.Module, for normalised images", f'net = oba.load_pruned("{self._place}")']
        return "\n".join([*lines, "```"])

    def _described(self, model: LoggedModel, *, whole: bool) -> dict[str, Any]:
        """Return the content of ``MLmodel``."""
        from mlflow import __version__

        fields = self._event.fields
        inputs, outputs = (_tensors(shape) for shape in (fields["inputs"], [fields["outputs"]]))
        return {
            "artifact_path": model.artifact_location,
            "flavors": {
                "python_function": {"loader_module": fields["loader"], "python_version": platform.python_version()}
            },
            "mlflow_version": __version__,
            "model_id": model.model_id,
            "model_uuid": model.model_id,
            "run_id": self._run.info.run_id,
            "signature": {"inputs": inputs, "outputs": outputs, "params": None},
            "utc_time_created": datetime.fromtimestamp(self._event.time / 1000, UTC).isoformat(" "),
            "metadata": {} if whole else {_EXTERNAL: True},
        }


def _tensors(shape: Sequence[int]) -> str:
    """Return what a signature says of any number of arrays of a shape."""
    return json.dumps([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, *shape]}}])
