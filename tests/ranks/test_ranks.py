"""One rank is the identity and needs no torch.distributed; several get the same sums."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from rank_runs import run_ranks, start_ranks

from oba import ranks
from oba.files import write_json
from oba.models.stored import ModelCard, save_pruned
from oba.tracking import UnheardRun

CHECKS = """
import json
import os
import torch
from oba import ranks

with ranks.connected(cuda=False):
    r = ranks.rank()
    floats, ints = torch.tensor([0.1, 1e-17 + r], dtype=torch.float64), torch.tensor([[1, 2]]) * (r + 1)
    ranks.sum_over_ranks([floats, ints])
    sent = torch.full((3,), float(r))
    ranks.broadcast_tensors([sent])
    found = {
        "rank": r, "count": ranks.count(), "main": ranks.is_main(), "own": list(ranks.own(range(5))),
        "none": list(ranks.own(range(1))), "floats": floats.tolist(), "ints": ints.tolist(),
        "total": ranks.total(10 ** 15 + r), "word": ranks.broadcast(f"from {r}"),
        "object": ranks.broadcast({"a": torch.tensor(r)})["a"].item(), "sent": sent.tolist(),
    }
    ranks.barrier()
assert not torch.distributed.is_initialized()
try:
    with ranks.connected(cuda=False):
        ranks.barrier()  # the first rank must not leave before all are there
        raise RuntimeError("sizes differ")
except RuntimeError as error:
    found["error"] = f"{type(error).__name__} {error}"
print(json.dumps(found), flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def three() -> list[dict]:
    return [json.loads(line) for line in run_ranks(["-c", CHECKS], count=3)]


def test_each_rank_knows_which_it_is(three):
    assert [(r["rank"], r["count"], r["main"]) for r in three] == [(0, 3, True), (1, 3, False), (2, 3, False)]


def test_items_are_divided_whole_and_each_once(three):
    assert [r["own"] for r in three] == [[0, 3], [1, 4], [2]]
    assert [r["none"] for r in three] == [[0], [], []]


def test_sums_are_those_of_all_ranks_and_keep_their_type(three):
    for r in three:
        assert r["floats"] == pytest.approx([0.3, 3.0], rel=1e-15)
        assert r["ints"] == [[6, 12]]
        assert r["total"] == 3 * 10**15 + 3
    assert three[0]["floats"] == three[1]["floats"] == three[2]["floats"], "to the last bit"


def test_values_of_the_first_rank_reach_all(three):
    assert [(r["word"], r["object"], r["sent"]) for r in three] == [("from 0", 0, [0.0, 0.0, 0.0])] * 3


def test_one_rank_is_the_identity(monkeypatch):
    monkeypatch.setenv("RANK", "3")  # left by another program
    monkeypatch.setenv("WORLD_SIZE", "4")
    number, value = torch.tensor([1.0, 2.0]), object()
    with ranks.connected(cuda=True):
        ranks.sum_over_ranks([number])
        ranks.broadcast_tensors([number])
        ranks.barrier()
        assert (ranks.rank(), ranks.count(), ranks.is_main(), ranks.total(7)) == (0, 1, True, 7)
        assert ranks.broadcast(value) is value
        assert list(ranks.own("abc")) == ["a", "b", "c"]
        assert not torch.distributed.is_initialized()
    assert number.tolist() == [1.0, 2.0]


def test_only_the_first_rank_writes_and_reports(tmp_path, monkeypatch):
    for name, value in {ranks.LAUNCHER: "1", "RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    write_json(tmp_path / "other.json", [1])
    card = ModelCard("net", 2, (1, 1, 1), ("a", "b"), (), ())
    save_pruned(tmp_path / "net", torch.nn.Linear(1, 2), card)
    run = UnheardRun(tmp_path)
    run.params({"lr": 1})
    run.metrics({"loss": 2.0}, step=1)
    run.chain_metrics({"loss": 2.0}, step=1)
    run.tags({"a": "b"})
    run.artifact(tmp_path / "other.json")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("RANK", "0")
    write_json(tmp_path / "first.json", [1])
    assert (tmp_path / "first.json").read_text() == "[\n 1\n]\n"


def test_one_rank_does_not_import_torch():
    program = (
        "import sys, oba.ranks as r; r.total(r.broadcast(1)); r.sum_over_ranks([]); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_rank_that_is_gone_is_noticed_at_once_and_said_in_one_line():
    program = """
import os, sys
from oba import ranks
try:
    with ranks.connected(cuda=False):
        if ranks.rank() == 1:
            os._exit(9)
        ranks.total(1)
except ranks.LostRankError as error:
    print(error, file=sys.stderr, flush=True)
    os._exit(error.exit_code)
"""
    main, other = start_ranks(["-c", program])
    _, said = main.communicate(timeout=60)
    other.communicate()
    assert (main.returncode, other.returncode) == (13, 9)
    assert said.startswith("rank 0 of 2 lost another rank: ")
    assert said.count("\n") == 1


def test_other_errors_pass_unchanged(three):
    assert [r["error"] for r in three] == ["RuntimeError sizes differ"] * 3
