"""Processes that read images: started once, kept between epochs, and asked for batches by index.

Each stream of batches has the processes of one torch DataLoader. When it ends, or is dropped half-way, they wait for
the next one; only streams that are read side by side need more of them.
"""

from __future__ import annotations

import os
import signal
import threading
import warnings
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from oba.data.store import usable_cpus
from oba.errors import ConfigError, DataError

Item = TypeVar("Item")
MAX_WORKERS = 16
"""Reading processes at most, unless ``OBA_WORKERS`` says otherwise; how many there are changes no batch."""
_AHEAD = 2
"""Batches that each process prepares before they are asked for."""


def worker_count() -> int:
    """Return how many processes read images for this one: a CPU each, shared by the ranks of one machine.

    Returns:
        ``OBA_WORKERS`` where the environment has it.

    Raises:
        ConfigError: If that is not a number of processes.
    """
    given = os.environ.get("OBA_WORKERS")
    if given is None:
        return max(1, min(MAX_WORKERS, usable_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    if not given.isdecimal() or int(given) < 1:
        raise ConfigError(f"OBA_WORKERS: got {given!r}; allowed: a number of processes, at least 1")
    return int(given)


class Workers(Generic[Item]):
    """Processes that turn items of a data set into batches of images, in the order in which they are asked for."""

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        """Remember what is read; the first stream starts the processes.

        Args:
            dataset: Returns a batch for an item, or a :class:`DataError` that says why there is none.
            device: Where batches are wanted.
        """
        self._dataset = dataset
        self._device = device
        self._idle: list[_Crew] = []

    def stream(self, items: Iterable[Item]) -> Iterator[Tensor]:
        """Yield the batch of every item, on the device.

        Args:
            items: What the data set is asked for.

        Yields:
            Batches, in the order of the items.

        Raises:
            DataError: What the data set returned, or that a process was killed.
            RuntimeError: If torch reports anything else.
        """
        crew = self._idle.pop() if self._idle else _Crew(self._dataset, self._device.type == "cuda")
        try:
            for batch in crew.read(items):
                if isinstance(batch, DataError):
                    raise batch
                yield batch.to(self._device, non_blocking=True)
        except RuntimeError as error:
            crew.stop()
            if not str(error).startswith("DataLoader worker (pid"):
                raise
            raise DataError(
                "a process that reads images was killed; likely memory or shared memory (/dev/shm) ran out; allowed: "
                "fewer of them (OBA_WORKERS), or smaller batches"
            ) from error
        except BaseException:
            self._idle.append(crew)
            raise
        self._idle.append(crew)


class _Crew:
    """One torch DataLoader whose processes stay alive; what it is asked for changes from stream to stream."""

    def __init__(self, dataset: Dataset, pinned: bool) -> None:
        self._asked = _Asked()
        with _unwarned():
            self._loader: DataLoader[Any] = DataLoader(
                dataset,
                batch_size=None,
                sampler=self._asked,
                num_workers=worker_count(),
                prefetch_factor=_AHEAD,
                persistent_workers=True,
                pin_memory=pinned,
                generator=torch.Generator(),  # else it would draw from, and so change, the global random state
            )

        # Left to the garbage collector, torch would start threads for queues whose ends it is about to close.
        self.stop = weakref.finalize(self, _stop, self._loader)

    def read(self, items: Iterable[Any]) -> Iterator[Any]:
        self._asked.items = items
        with _own_signals(), _unwarned():
            return iter(self._loader)


def _stop(loader: DataLoader[Any]) -> None:
    """End a loader's processes, if it has started them."""
    if loader._iterator is not None:
        loader._iterator._shutdown_workers()  # pyright: ignore[reportAttributeAccessIssue]


class _Asked:
    """The items of the present stream, as a DataLoader's sampler."""

    items: Iterable[Any] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


@contextmanager
def _unwarned() -> Iterator[None]:
    """Start processes without warnings that do not apply."""
    with warnings.catch_warnings():
        # Whoever sets OBA_WORKERS may want more than one for each CPU.
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        # The processes only run PIL, numpy and what they import, so that forking beside torch's threads is safe.
        warnings.filterwarnings("ignore", message=r".*multi-threaded.*fork", category=DeprecationWarning)
        yield


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep torch from raising errors out of a signal handler, anywhere in the program, when a process is killed.

    It also notices when it waits for a batch, which is where :meth:`Workers.stream` can say what happened.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)
