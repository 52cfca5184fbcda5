from __future__ import annotations

import json
import math

import pytest
import torch

from oba import registry
from oba.bench.importance import PLAIN, Setting, run
from oba.errors import ConfigError
from oba.importance.criterion import make_criterion

TINY = Setting("resnet8", batch=2, size=8, rounds=1, threads=torch.get_num_threads())


def test_every_cost_is_written_and_shown(tmp_path, capsys):
    run(TINY, ["oba", "oba-joint"], tmp_path / "costs.json")
    measured = json.loads((tmp_path / "costs.json").read_text())
    names = {PLAIN, "oba, per parameter", "oba, per structure", "oba-joint, per structure", "exact Hessian, 16 rows"}
    assert measured["costs"].keys() == names
    assert measured["costs"][PLAIN]["gradients"] == measured["costs"][PLAIN]["peak_gradients"] == 1
    for cost in measured["costs"].values():
        assert all(math.isfinite(value) and value > 0 for value in cost.values())
    assert measured["setting"]["model"] == "resnet8"
    shown = capsys.readouterr().out
    assert all(name.split(",")[0] in shown for name in names)


def test_all_criteria_that_look_at_images_are_measured_by_default(tmp_path):
    run(TINY, [], tmp_path / "costs.json")
    measured = json.loads((tmp_path / "costs.json").read_text())["costs"]
    costly = [name for name in registry.names("criterion") if make_criterion(name).needs_data]
    assert {"c-obd", "c-obs", "kron-obd", "kron-obs", "reconstruction"} < set(costly)
    assert {f"{name}, per structure" for name in costly} < measured.keys()
    assert "c-obd, per parameter" in measured


@pytest.mark.parametrize("criterion", ["magnitude", "obda"])
def test_what_costs_nothing_or_is_unknown_is_refused(criterion):
    with pytest.raises(ConfigError, match=rf"--criterion: '{criterion}' cannot be measured; allowed: c-obd, c-obs, f"):
        run(TINY, [criterion], None)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="--device: 'tpu' is not there; allowed: cpu"):
        run(Setting("resnet8", 2, 8, device="tpu"), ["oba"], None)
