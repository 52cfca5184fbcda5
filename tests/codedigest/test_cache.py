"""Digests are the same with a filled cache, an empty and a damaged one; with a filled one nothing is parsed."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oba import cache as caching
from oba import codedigest
from oba.cache import Cache, cache_folder
from oba.codedigest import stage_code

JOB = ("finetune", ("oba.models.families.resnet",))


def no_parser(*_: object) -> ast.Module:
    raise AssertionError("a file is parsed")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache folder of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/oba"


@pytest.fixture
def digest(cache: Path) -> Iterator[Callable[[], str]]:
    """Return a function that digests a job's code as a process does that has just started."""

    def forget() -> None:
        for function in (codedigest._cache, codedigest._facts, codedigest._imports):
            function.cache_clear()
        codedigest.code_digest.cache_clear()
        codedigest.reachable.cache_clear()

    def digest() -> str:
        forget()
        return stage_code(*JOB)

    yield digest
    forget()


def test_the_second_process_parses_nothing(
    digest: Callable[[], str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = digest()
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(codedigest.ast, "parse", no_parser)
    assert digest() == first


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"no cache\n{}", "flip", "cut"], ids=str)
def test_a_damaged_cache_is_filled_again(digest: Callable[[], str], cache: Path, damage: bytes | str) -> None:
    first = digest()
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    flipped = whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]
    path.write_bytes({"flip": flipped, "cut": whole[:-9]}[damage] if isinstance(damage, str) else damage)
    assert digest() == first
    assert path.read_bytes() == whole


def test_digests_need_no_folder_that_can_be_written(digest: Callable[[], str], cache: Path) -> None:
    first = digest()
    (path,) = cache.iterdir()
    path.unlink()
    cache.rmdir()
    cache.write_text("a file where the folder should be")
    assert digest() == first
    assert cache.is_file()


def test_a_full_disk_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    kept = Cache("kept")
    assert kept.value("a", lambda: 1) == 1
    monkeypatch.setattr(caching.os, "replace", full)
    kept.save()
    assert list(cache.iterdir()) == []


def test_entries_of_two_processes_add_up(cache: Path) -> None:
    one, other = Cache("shared"), Cache("shared")
    assert one.value("a", lambda: (1, ["x"])) == [1, ["x"]]
    assert other.value("b", lambda: 2) == 2
    one.save()
    other.save()
    assert Cache("shared").value("a", lambda: 0) == [1, ["x"]]
    assert Cache("shared").value("b", lambda: 0) == 2


def test_a_cache_does_not_grow_without_end(cache: Path) -> None:
    for key in "abc":
        one = Cache("few", most=2)
        one.value(key, lambda: 0)
        one.save()
    assert json.loads((cache / "few.json").read_text().partition("\n")[2]) == {"c": 0}


def test_without_a_home_there_is_no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(caching.os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    assert cache_folder() is None
    kept = Cache("none")
    assert kept.value("a", lambda: 1) == 1
    kept.save()
    assert list(tmp_path.iterdir()) == []
