"""The ranks of a job: processes that divide its images among them and add up what each has found.

A stage that asks for several GPUs runs as one process for each (:mod:`oba.training.launch` starts them). Anywhere else
there is one rank: every function here returns what it is given, and ``torch.distributed`` is not even imported. Sums
have other orders of terms with another number of ranks, and all ranks get the same bits.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from oba.errors import ObaError
from oba.identity import LAUNCHER, MEETING, count, is_main, own, rank

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "LAUNCHER",
    "MEETING",
    "LostRankError",
    "barrier",
    "broadcast",
    "broadcast_tensors",
    "connected",
    "count",
    "gather",
    "is_main",
    "own",
    "rank",
    "sum_over_ranks",
    "total",
]
_PATIENCE = timedelta(hours=1)
"""How long one rank waits for another that is alive; one that died is noticed at once."""
_meetings = itertools.count()

T = TypeVar("T")


class LostRankError(ObaError):
    """A rank of the job ended early, so the job ends."""

    exit_code = 13


def sum_over_ranks(tensors: Iterable[Tensor]) -> None:
    """Replace tensors by their sums over all ranks, in place.

    Args:
        tensors: As many, in the same order, shapes and types, on every rank; on the CPU or on the rank's device. Where
            rounding matters, in float64.
    """
    if count() == 1:
        return
    import torch.distributed as dist

    # One after another, but all started before the first is waited for.
    for work in [dist.all_reduce(tensor, async_op=True) for tensor in tensors if tensor.numel()]:
        assert work is not None
        work.wait()


def total(number: int) -> int:
    """Return the sum of a whole number over all ranks.

    Args:
        number: This rank's.

    Returns:
        The sum, the same on all ranks.
    """
    if count() == 1:
        return number
    import torch

    counted = torch.tensor(number, dtype=torch.int64)
    sum_over_ranks([counted])
    return int(counted)


def broadcast(value: T) -> T:
    """Return the first rank's value on all ranks.

    Args:
        value: Anything that can be pickled; that of the other ranks is not used.

    Returns:
        The first rank's; tensors are on the CPU.
    """
    if count() == 1:
        return value
    import torch
    import torch.distributed as dist

    values = [value if is_main() else None]
    dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]  # pyright: ignore[reportReturnType]


def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Replace tensors by those of the first rank, in place: what follows is then the same on all to the last bit.

    Args:
        tensors: As many, in the same order, shapes and types, on every rank.
    """
    if count() == 1:
        return
    import torch.distributed as dist

    for work in [dist.broadcast(tensor, src=0, async_op=True) for tensor in tensors]:
        assert work is not None
        work.wait()


def gather(value: T) -> list[T]:
    """Return the values of all ranks, in their order, on the first rank, and nothing on the others.

    Args:
        value: Anything that can be pickled; tensors on the CPU.

    Returns:
        A value for each rank, or an empty list.
    """
    if count() == 1:
        return [value]
    import torch.distributed as dist

    values: list[T] = [value] * count() if is_main() else []
    dist.gather_object(value, values or None, dst=0)
    return values


def barrier() -> None:
    """Wait for all ranks, asleep: a barrier of NCCL would keep a processor busy."""
    total(0)


@contextmanager
def connected(*, cuda: bool) -> Iterator[None]:
    """Let the ranks of this job speak with each other inside the block; all enter it, and leave it together.

    After an error the connections stay open, because closing them may wait for ranks that are gone: the process is to
    end by ``os._exit``, which closes nothing.

    Args:
        cuda: Whether they also exchange tensors on GPUs (by NCCL; on the CPU it is gloo).

    Yields:
        Nothing.

    Raises:
        LostRankError: If another rank ended or hangs while this one waits for it.
    """
    if count() == 1:
        yield
        return
    import torch.distributed as dist

    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    with _losses_told():
        where = os.path.join(os.environ[MEETING], f"store{next(_meetings)}")
        store = dist.FileStore(where, count())  # pyright: ignore[reportPrivateImportUsage]
        dist.init_process_group(backend, store=store, rank=rank(), world_size=count(), timeout=_PATIENCE)
        yield
        barrier()
    dist.destroy_process_group()


@contextmanager
def _losses_told() -> Iterator[None]:
    """Say in one line that another rank is gone; gloo and NCCL say it in many ways."""
    import torch.distributed as dist

    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo/transport" in str(error)):
            raise
        told = str(error).splitlines()[0]
        raise LostRankError(f"rank {rank()} of {count()} lost another rank: {told}") from error
