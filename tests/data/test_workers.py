"""Processes that read images: kept between streams, in order, and clear about what went wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psutil
import pytest
import torch
from torch.utils.data import Dataset

from oba.data import workers as module
from oba.data.workers import MAX_WORKERS, Workers, worker_count
from oba.errors import ConfigError, DataError

CPU = torch.device("cpu")


class Echo(Dataset):
    """Returns the item, its process and, of negative items, an error."""

    def __getitem__(self, item: int) -> torch.Tensor | DataError:
        if item == -1:
            return DataError("here/image.jpg: not an image")
        if item == -2:
            raise KeyError("a mistake in the code")
        if item == -3:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.tensor([item, os.getpid()])


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Workers[int]:
    """Return two processes."""
    monkeypatch.setenv("OBA_WORKERS", "2")
    return Workers(Echo(), CPU)


def items(batches: list[torch.Tensor]) -> list[int]:
    return [int(batch[0]) for batch in batches]


def processes(batches: list[torch.Tensor]) -> set[int]:
    return {int(batch[1]) for batch in batches}


def test_order_is_kept_and_processes_are_too(crew: Workers[int]) -> None:
    first = list(crew.stream(range(9)))
    second = list(crew.stream(iter([5, 3, 5])))
    assert items(first) == list(range(9))
    assert items(second) == [5, 3, 5]
    assert processes(first) == processes(second)
    assert len(processes(first)) == 2
    assert os.getpid() not in processes(first)


def test_a_stream_that_is_dropped_leaves_nothing_to_the_next(crew: Workers[int]) -> None:
    dropped = crew.stream(range(100))
    started = processes([next(dropped), next(dropped)])
    dropped.close()
    after = list(crew.stream(range(200, 220)))
    assert items(after) == list(range(200, 220))
    assert processes(after) == started


def test_streams_side_by_side_do_not_mix(crew: Workers[int]) -> None:
    pairs = list(zip(crew.stream(range(20)), crew.stream(range(50, 70)), strict=True))
    assert [items(list(pair)) for pair in pairs] == [[n, n + 50] for n in range(20)]
    assert len(processes([batch for pair in pairs for batch in pair])) == 4


def test_items_are_asked_for_a_little_ahead(crew: Workers[int]) -> None:
    taken: list[int] = []

    def asked() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    stream = crew.stream(asked())
    for _ in range(3):
        next(stream)
    assert 3 <= len(taken) <= 3 + 2 * 2
    stream.close()


def test_an_error_is_raised_where_the_batch_would_be(crew: Workers[int]) -> None:
    stream = crew.stream([1, -1, 2])
    assert int(next(stream)[0]) == 1
    with pytest.raises(DataError, match=r"^here/image\.jpg: not an image$"):
        next(stream)
    assert items(list(crew.stream(range(4)))) == [0, 1, 2, 3]


def test_mistakes_in_the_code_are_not_called_anything_else(crew: Workers[int]) -> None:
    with pytest.raises(KeyError, match="a mistake in the code"):
        list(crew.stream([-2]))


def test_a_killed_process_is_one_line(crew: Workers[int]) -> None:
    before = signal.getsignal(signal.SIGCHLD)
    with pytest.raises(DataError) as caught:
        list(crew.stream([1, -3, 2, 3, 4, 5, 6]))
    assert str(caught.value).startswith("a process that reads images was killed; likely memory or shared memory")
    assert "\n" not in str(caught.value)
    assert signal.getsignal(signal.SIGCHLD) == before, "torch would raise errors out of a signal handler"
    assert items(list(crew.stream(range(4)))) == [0, 1, 2, 3]


def test_processes_end_with_what_asked_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBA_WORKERS", "2")
    crew = Workers[int](Echo(), CPU)
    running = [psutil.Process(process) for process in processes(list(crew.stream(range(4))))]
    del crew
    assert psutil.wait_procs(running, timeout=30)[1] == []


def test_other_errors_of_torch_pass(crew: Workers[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("out of something else")

    monkeypatch.setattr(module._Crew, "read", fails)
    with pytest.raises(RuntimeError, match="out of something else"):
        list(crew.stream([1]))


def test_global_random_states_are_left_alone(crew: Workers[int]) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    list(crew.stream(range(3)))
    list(crew.stream(range(3)))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("cpus", "ranks", "expected"), [(1, None, 1), (6, None, 6), (6, "4", 1), (6, "8", 1), (200, None, MAX_WORKERS)]
)
def test_every_cpu_reads(monkeypatch: pytest.MonkeyPatch, cpus: int, ranks: str | None, expected: int) -> None:
    monkeypatch.delenv("OBA_WORKERS", raising=False)
    monkeypatch.setattr(module, "usable_cpus", lambda: cpus)
    if ranks:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    assert worker_count() == expected


@pytest.mark.parametrize("value", ["0", "-1", "many", ""])
def test_a_number_of_processes_is_a_number(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OBA_WORKERS", value)
    with pytest.raises(ConfigError, match=rf"^OBA_WORKERS: got '{value}'; allowed: a number of processes, at least 1$"):
        worker_count()
