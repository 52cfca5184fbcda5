"""What Snakemake tells its plugin ``--logger oba``: all that a run says. Snakemake's own log has everything, too.

Snakemake calls this in a thread of its own. Whatever goes wrong here, the run goes on.
"""

from __future__ import annotations

import sys
import time
from logging import Handler, LogRecord
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase

_PATIENCE = 2.0
"""Seconds that a run waits at most until all that it said so far is shown."""


class LogHandler(LogHandlerBase):
    """Shows a run, or what Snakemake would show if that fails."""

    def __post_init__(self) -> None:
        """Look where the output goes."""
        self._instead: Handler | None = None
        self._teller: Any = None
        try:
            from oba.status.teller import teller_for

            self._teller = teller_for(self.common_settings)
        except Exception as error:
            self._give_up(error)

    def know(self, jobs: Any, *, cluster: bool) -> None:
        """Be told of the jobs of the study, when it has been read.

        Args:
            jobs: They, as :class:`oba.jobs.Jobs`.
            cluster: Whether they run on a cluster.
        """
        try:
            if self._teller is not None:
                self._teller.know(jobs, cluster=cluster)
        except Exception as error:
            self._give_up(error)

    def settle(self, manager: Any) -> None:
        """Show what was said so far, and leave the terminal to others.

        Args:
            manager: Snakemake's, with the queue of what was said.
        """
        try:
            deadline, queue = time.monotonic() + _PATIENCE, manager.queue_listener.queue
            while queue.unfinished_tasks and time.monotonic() < deadline:
                time.sleep(0.02)
        except AttributeError as error:  # another Snakemake, whose manager is another
            self._give_up(error)
        self.close()

    @property
    def interrupted(self) -> bool:
        """Whether the user stopped the run."""
        return self._teller is not None and self._teller.interrupted

    def emit(self, record: LogRecord) -> None:
        """Show what there is to show of a record."""
        try:
            if self._teller is not None:
                self._teller.take(record)
            elif self._instead is not None:
                self._instead.handle(record)
        except OSError:
            self._teller = self._instead = None  # nobody reads what is shown: the terminal or pipe is closed
        except Exception as error:
            self._give_up(error)
            if self._instead is not None:
                self._instead.handle(record)

    def close(self) -> None:
        """Take the live part off the terminal."""
        try:
            if self._teller is not None:
                self._teller.pause()
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Go on as Snakemake does without a plugin."""
        from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter

        teller, self._teller = self._teller, None
        settings = self.common_settings
        shown = (settings.debug_dag, settings.verbose, settings.dryrun, settings.printshellcmds)
        stream = sys.stdout if settings.stdout else sys.stderr
        self._instead = ColorizingTextHandler(
            settings.nocolor,
            stream,
            DefaultFormatter(settings.quiet, settings.show_failed_logs),
            DefaultFilter(settings.quiet, *shown),  # pyright: ignore[reportArgumentType]
        )
        try:
            if teller is not None:
                teller.pause()
            kind = type(error).__name__
            stream.write(f"the display failed ({kind}: {error}); Snakemake's own follows, and the run goes on\n")
        except Exception:
            return  # the stream itself is broken, and no run ends for that

    @property
    def writes_to_stream(self) -> bool:
        """Whether Snakemake is to show nothing itself."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """Whether this is a log file: no, Snakemake keeps its own."""
        return False

    @property
    def has_filter(self) -> bool:
        """Whether all records are wanted."""
        return True

    @property
    def has_formatter(self) -> bool:
        """Whether records come as they are."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """Whether the graph of the rules is wanted."""
        return False
