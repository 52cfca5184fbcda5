"""Records: what is written is read back, and anything else is one line with file and key."""

from __future__ import annotations

import json

import pytest

from oba.errors import FileError
from oba.files import read_record, write_record
from oba.records import Accuracy, Evaluation, JobRecord, Pruned, Trained

VAL = {"loss": 0.5, "top1": 0.75, "top5": None, "images": 40}
TRAINED = {"val": VAL, "epochs": 2, "total_epochs": 5, "selected_epoch": 2, "seconds": 3.5}
PRUNED = {"keep": 0.4, "val": VAL, "val_before": VAL, "macs": 10, "macs_kept": 0.4, "total_epochs": 3}
PRUNED |= {"calibration_images": 64}
ROUND = {"keep": 0.4, "macs_kept": 0.39, "removed": 3, "kept": {"conv1": 5}, "scoring_seconds": 0.1}
ROUND |= {"predicted": None, "loss_before": 0.1, "loss_after": None}


def put(path, values):
    path.write_text(json.dumps(values))
    return path


def test_what_is_written_is_read_back(tmp_path):
    trained = Trained(val=Accuracy(**VAL), epochs=2, total_epochs=5, selected_epoch=2, seconds=3.5)
    write_record(tmp_path / "metrics.json", trained)
    assert json.loads((tmp_path / "metrics.json").read_text()) == TRAINED
    assert read_record(tmp_path / "metrics.json", Trained) == trained


def test_a_net_of_which_nothing_was_removed_has_no_method(tmp_path):
    pruned = read_record(put(tmp_path / "metrics.json", PRUNED), Pruned)
    assert (pruned.method, pruned.scoring, pruned.rounds, pruned.warnings) == (None, None, [], [])
    pruned = read_record(put(tmp_path / "metrics.json", PRUNED | {"rounds": [ROUND]}), Pruned)
    assert pruned.rounds[0].model_dump() == ROUND | {"weights_kept": None}


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Trained, TRAINED | {"epochs": -1}, "epochs is -1; expected greater than or equal to 0"),
        (Trained, TRAINED | {"epochs": 1.5}, "epochs is 1.5; expected a valid integer"),
        (Trained, TRAINED | {"epochs": True}, "epochs is True; expected a valid integer"),
        (Trained, TRAINED | {"seconds": "3"}, "seconds is '3'; expected a valid number"),
        (Trained, TRAINED | {"seconds": float("nan")}, "seconds is nan; expected a finite number"),
        (Trained, TRAINED | {"val": VAL | {"top1": 75}}, "val.top1 is 75; expected less than or equal to 1"),
        (Trained, TRAINED | {"cost": {}}, "cost is unknown; the file is damaged or of another version"),
        (
            Trained,
            {k: v for k, v in TRAINED.items() if k != "val"},
            "val is missing; the file is damaged",
        ),
        (Trained, [1], r"the content is [1]; expected a valid dictionary"),
        (Evaluation, {"test": "x" * 99}, f"test is 'x{'x' * 35}...; expected a valid dictionary"),
        (Pruned, PRUNED | {"rounds": [ROUND | {"kept": {"conv1": -1}}]}, "rounds.0.kept.conv1 is -1; expected greater"),
        (JobRecord, {"settings": {}, "inputs": {"a": 3}}, "inputs.a is 3; expected a valid string"),
    ],
)
def test_anything_else_names_file_and_key_in_one_line(tmp_path, kind, values, message):
    path = put(tmp_path / "file.json", values)
    with pytest.raises(FileError) as caught:
        read_record(path, kind)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileError, match=r"gone\.json: no such file"):
        read_record(tmp_path / "gone.json", Trained)


def test_a_runs_further_keys_are_left_aside(tmp_path):
    run = read_record(put(tmp_path / "run.json", {"settings": {"a": 1}, "inputs": {}, "host": "x"}), JobRecord)
    assert run == JobRecord(settings={"a": 1}, inputs={})
