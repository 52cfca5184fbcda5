from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from oba.machine import RuntimeConfig
from oba.recipes import TrainConfig
from oba.training import slots
from oba.training.loop import train
from oba.training.records import TrainOutcome

TOY = Path(__file__).with_name("toy.py")
if str(TOY.parent) not in sys.path:  # so that tests import what they share by name
    sys.path.insert(0, str(TOY.parent))


@pytest.fixture(scope="session")
def toy() -> SimpleNamespace:
    """The toy problem of ``toy.py``, which also runs as a script of its own."""
    return SimpleNamespace(path=TOY, **runpy.run_path(str(TOY), run_name="toy"))


@pytest.fixture
def run(toy: SimpleNamespace, tmp_path: Path) -> Any:
    """Train the toy net; every argument can be given."""

    def start(config: TrainConfig = toy.CONFIG, **given: Any) -> tuple[torch.nn.Module, TrainOutcome]:
        model = given.pop("model", None) or toy.toy_net()
        arguments: dict[str, Any] = {
            "seed": 3,
            "state_dir": tmp_path / "state",
            "device": torch.device("cpu"),
            "runtime": RuntimeConfig(),
            "on_epoch": lambda _: None,
            "label": "toy",
        }
        return model, train(model, given.pop("bundle", None) or toy.ToyBundle(), config, **(arguments | given))

    return start


@pytest.fixture
def _eight_gpus_and_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_installed", lambda: 8)
    monkeypatch.setattr(slots, "_POLL", 0.01)
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)
