"""What a stage reports to: its journal at once, and MLflow from time to time."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oba.addresses import redacted
from oba.tracking.connection import Connection
from oba.tracking.forward import Forwarder
from oba.tracking.journal import Journal, RunIdentity, Status, adopt, last_points, read_attempt
from oba.tracking.limits import DATASET_NAME, clean_model, clean_params, clean_tags
from oba.tracking.names import numbers
from oba.tracking.store import Store
from oba.tracking.system import CPU, SAMPLE_SECONDS, Sampler

ALLOWANCE = 10.0
"""Seconds that a stage may spend on a slow server, besides 2 % of its time."""
_PAUSE = 1800.0
"""Seconds after a failure in which a stage does not ask its server again."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NetFiles:
    """A net's files.

    Attributes:
        folder: Where they are, within the results.
        uploaded: Names of those that MLflow gets as well; none of a net that is too large.
        loader: The module that loads what was uploaded, as MLflow's ``python_function`` flavour asks for it.
        inputs: Sizes of one input, without the number of inputs.
        outputs: Number of outputs.
    """

    folder: Path
    uploaded: Sequence[str]
    loader: str
    inputs: Sequence[int]
    outputs: int


class StageRun:
    """A stage's run. Nothing that happens to the tracking server is raised here."""

    def __init__(self, journal: Journal, results_dir: Path, forwarder: Forwarder, every: float) -> None:
        """Use :func:`stage_run`."""
        self._journal = journal
        attempt = read_attempt(journal.path)
        self._points = {place: v for place, (v, _) in last_points(attempt.events, "metrics").items()} if attempt else {}
        self._results = Path(os.path.abspath(results_dir))
        self._forwarder = forwarder
        self._every = every
        self._started = self._passed = time.monotonic()
        self._paused_until, self._warned = 0.0, False
        self._sampler: Sampler | None = None

    def params(self, values: Mapping[str, Any]) -> None:
        """Report settings. A value that was reported before stays.

        Args:
            values: Plain values; nested ones get names with dots.
        """
        self._write("params", values=clean_params(_shown(flatten(values))))

    def tags(self, values: Mapping[str, str]) -> None:
        """Report tags, in the place of those of the same name.

        Args:
            values: Names and texts; empty ones are left out.
        """
        self._write("tags", values=clean_tags(_shown(values)))

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Report measures. What was reported before, by a killed process too, is not reported again.

        Of several values for one step, the last one counts until it is sent; what MLflow has stays.

        Args:
            values: Names and numbers.
            step: The epoch, or none.
        """
        step = int(step or 0)
        new = {key: v for key, v in numbers(values).items() if self._points.get((key, step)) != v}
        if new:
            self._write("metrics", step=step, values=new)
            self._points |= {(key, step): v for key, v in new.items()}
        if time.monotonic() - self._passed >= self._every:
            self._forward()

    def chain_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Report measures of the parent run, whose latest values are those of the largest step.

        Args:
            values: Names and numbers.
            step: How much was removed, in per cent; 0 for the dense net.
        """
        self._write("chain", step=int(step), values=numbers(values))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Report a file, which is sent from its place.

        Args:
            path: The file, within the results.
            folder: Folder among the run's artifacts.
        """
        self._write("artifact", path=self._within(path), folder=folder)

    def dataset(self, name: str, *, digest: str, source: str, profile: Mapping[str, int], context: str) -> None:
        """Report data that the stage reads.

        Args:
            name: Its name.
            digest: What tells it from other data of this name; the first 12 characters count.
            source: Where it comes from: a folder, or a name.
            profile: Numbers that say how much it is.
            context: What the stage does with it, such as ``train``.
        """
        values = {"source": redacted(source), "profile": dict(profile), "context": context}
        self._write("dataset", name=redacted(name)[:DATASET_NAME], digest=digest[:12], **values)

    def model(self, name: str, net: NetFiles, params: Mapping[str, Any]) -> None:
        """Report the net that the run is about: MLflow shows the run's metrics as the net's.

        Args:
            name: What it is called.
            net: Where it is, and what loads it.
            params: What describes it.
        """
        folder, values = self._within(net.folder), clean_params(_shown(flatten(params)))
        fields = {"folder": folder, "files": [f"{folder}/{file}" for file in net.uploaded], "loader": net.loader}
        fields |= {"inputs": list(net.inputs), "outputs": net.outputs, "values": values}
        self._write("model", name=clean_model(name), **fields)

    def experiment(self, tags: Mapping[str, str]) -> None:
        """Report tags that describe the experiment; what people write in their place stays.

        Args:
            tags: Names and texts without passwords, in which ``{experiment}`` stands for the experiment's id.
        """
        # A link to a view has an option that looks like a secret.
        self._write("experiment", values=dict(tags))

    def sample(self, seconds: float) -> None:
        """Report from now on how busy the machine is, once in so many seconds."""
        number = max((step for key, step in self._points if key == CPU), default=-1) + 1
        self._sampler = Sampler(self._sampled, number, seconds)

    def end(self, status: Status, min_seconds: float) -> None:
        """Report the end and pass on the rest; runs that are shorter than ``min_seconds`` are left to ``sync``."""
        if self._sampler is not None:
            self._sampler.stop()
        self._write("end", status=status)
        if time.monotonic() - self._started >= min_seconds:
            self._forward()
        self._journal.close()

    def _write(self, kind: str, **fields: Any) -> None:
        self._journal.write(kind, **fields)

    def _sampled(self, values: Mapping[str, float], number: int) -> None:
        self._journal.write("metrics", gives_up=False, step=number, values=numbers(values))

    def _within(self, path: Path) -> str:
        """Return a path as it is written below the results."""
        # Where an experiment's folder is a link, its files are within the results by name only.
        named = Path(os.path.abspath(path))
        place = named if named.is_relative_to(self._results) else named.resolve()
        root = self._results if place is named else self._results.resolve()
        return place.relative_to(root).as_posix()

    def _forward(self) -> None:
        """Pass the journal on; after a failure, of which the first is reported, not for a while."""
        if time.monotonic() < self._paused_until:
            return
        try:
            self._forwarder.forward()
        # Whatever MLflow or its parts raise: results are in the files, and no stage fails for its mirror.
        except Exception as error:
            if not self._warned:
                line = redacted(" ".join(str(error).split()))
                _logger.warning("tracking: %s; `oba sync` sends this run later", line)
            self._warned, self._paused_until = True, time.monotonic() + _PAUSE
        self._passed = time.monotonic()


class UnheardRun(StageRun):
    """The run of a rank that is not its job's first: what it reports, the first reports as well."""

    def __init__(self, results_dir: Path) -> None:
        """Need no journal.

        Args:
            results_dir: The folder of all results.
        """
        self._results = Path(os.path.abspath(results_dir))
        self._points = {}
        self._every, self._passed = float("inf"), time.monotonic()

    def _write(self, kind: str, **fields: Any) -> None:
        """Write nothing."""


@contextmanager
def stage_run(
    journal: Path,
    identity: RunIdentity,
    *,
    uri: str,
    results_dir: Path,
    upstream: Iterable[Path] = (),
    every: float = 30.0,
    min_seconds: float = 0.0,
    sampled: bool = False,
    again: bool = False,
) -> Iterator[StageRun]:
    """Report a stage: to its journal, and from there to MLflow.

    Args:
        journal: The journal. A stage that goes on after it was killed or failed adds to its run, unless the
            identity has another ``attempt``.
        identity: The stage's run.
        uri: The tracking server or store.
        results_dir: The folder of all results, which the artifacts are in.
        upstream: Journals of the stages whose results this one reads; missing ones are passed over. Those that
            finished in an earlier attempt of the chain are shown under this stage's parent from now on, with
            their own upstream stages, since they are still valid.
        every: Seconds between two passes to MLflow; there is one at the end as well.
        min_seconds: Stages that are shorter are only journalled and left to ``sync``: importing mlflow costs
            seconds.
        sampled: Whether to report how busy the machine is.
        again: Whether to go on in the same run even if it had finished.

    Yields:
        What to report to.
    """
    book, upstream = Journal(journal), list(upstream)
    book.start(identity, upstream, again=again)
    if identity.parent:
        for path in upstream:
            adopt(path, identity.parent)
    connection = Connection(uri, results_dir, allowance=ALLOWANCE, heeds_others=True)
    forwarder = Forwarder(journal, Store(connection))
    run = StageRun(book, results_dir, forwarder, every)
    if sampled:
        run.sample(SAMPLE_SECONDS)
    try:
        yield run
    except BaseException as error:
        run.end("FAILED" if isinstance(error, Exception) else "KILLED", min_seconds)
        raise
    run.end("FINISHED", min_seconds)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Write nested settings as one level of text, their names joined by dots."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat


def _shown(values: Mapping[str, str]) -> dict[str, str]:
    """Return texts without logins and passwords."""
    return {key: redacted(value) for key, value in values.items()}
