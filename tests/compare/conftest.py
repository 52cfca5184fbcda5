"""Experiments as stages leave them, made up: studies, records, evaluations."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from oba.study import dump_study, parse_study

STUDY = {
    "experiment": "one",
    "data": {"name": "digits"},
    "models": ["resnet8"],
    "seeds": [0, 1],
    "methods": ["magnitude", "taylor"],
    "keep": [0.6, 0.3],
    "dense": {"epochs": 2},
    "finetune": {"epochs": 1},
}


def put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


@dataclass
class Made:
    """What an experiment says; ``code``, ``record`` and ``top1`` are what tests change."""

    name: str = "one"
    study: dict[str, Any] = field(default_factory=lambda: deepcopy(STUDY))
    methods: tuple[str, ...] = ("magnitude", "taylor")
    seeds: tuple[int, ...] = (0, 1)
    code: dict[str, str] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    top1: dict[tuple[int, str, str], float] = field(default_factory=dict)
    latency: float = 2.0
    digest: str = "d" * 16

    def write(self, results: Path) -> Path:
        root = results / self.name
        study = dump_study(parse_study(self.study | {"experiment": self.name}, "study"))
        put(root / "study.json", study)
        info = {"name": "digits", "classes": ["0", "1"], "input_size": [1, 8, 8], "train_images": 90, "test_images": 0}
        put(root / "data" / "data.json", info | {"digest": self.digest})
        self._job(root / "data" / "run.json", "prepare", {}, {})
        for seed in self.seeds:
            head = {"seed": seed, "digest": f"{self.digest}{seed}", "sizes": {"train": 60, "val": 10, "test": 20}}
            put(root / "data" / f"split-seed{seed}.json", head)
            at = {"model": "resnet8", "seed": str(seed)}
            dense = root / "resnet8" / f"seed{seed}" / "dense"
            self._job(dense / "run.json", "dense", at, {"dense": study["dense"], "threads": 1})
            self._net(dense, seed, "dense", "")
            for method in self.methods:
                for keep in ("0.60", "0.30"):
                    level = dense.with_name(f"{method}-iterative") / f"keep{keep}"
                    there = at | {"method": method, "schedule": "iterative", "keep": keep}
                    own = next(one for one in study["methods"] if one["name"] == method)
                    self._job(level / "pruned" / "run.json", "prune", there, {"method": own, "threads": 1})
                    val = {"loss": 1.0, "top1": 0.5, "top5": None, "images": 10}
                    counts = {"keep": float(keep), "macs": 600, "macs_kept": 0.6, "total_epochs": 2}
                    pruned = {"val_before": val, "val": val, "calibration_images": 32}
                    put(level / "pruned" / "metrics.json", counts | pruned)
                    put(level / "pruned" / "plan.json", {})
                    recipe = {"finetune": study["finetune"], "threads": 1}
                    self._job(level / "finetuned" / "run.json", "finetune", there, recipe)
                    self._net(level / "finetuned", seed, method, keep)
        return root

    def _job(self, path: Path, stage: str, at: dict[str, str], settings: dict[str, Any]) -> None:
        code = self.code.get(stage, f"{stage}-code")
        made = {"oba": "0.1.0", "torch": "2.14.1", "python": "3.11.7", "host": "vm", "device": "cpu", "threads": 1}
        git = {"git": {"commit": "c0ffee", "dirty": False}}
        own = {"stage": stage, "at": at, "settings": settings, "inputs": {}, "code": code}
        put(path, own | made | git | self.record)

    def _net(self, folder: Path, seed: int, method: str, keep: str) -> None:
        top1 = self.top1.get((seed, method, keep), 0.9)
        kept = float(keep or 1)
        put(folder / "plan.json", {})
        put(
            folder / "evaluation.json",
            {
                "test": {"loss": 0.5, "top1": top1, "top5": None, "images": 20},
                "cost": {"macs": round(1000 * kept), "parameters": 100, "bytes": 400},
                "macs_kept": kept,
                "parameters_kept": 1.0,
                "latency": {
                    "batch": 32,
                    "runs": 3,
                    "median_ms": self.latency,
                    "dense_median_ms": 2.0,
                    "speedup": 1.0,
                    "speedup_low": 1.0,
                    "speedup_high": 1.0,
                    "deterministic": False,
                    "cudnn_benchmark": False,
                },
                "device": "cpu",
                "threads": 1,
            },
        )


@pytest.fixture
def experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that writes experiments below the working directory's results."""
    monkeypatch.chdir(tmp_path)

    def write(*made: Made) -> list[str]:
        return [str(one.write(Path("results"))) for one in made]

    return write


@pytest.fixture
def made():
    return Made
