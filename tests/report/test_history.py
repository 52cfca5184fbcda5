from __future__ import annotations

import pytest

from oba.errors import FileError
from oba.report.history import mean_history, read_history

HEADER = "epoch,lr,train_loss,train_top1,val_loss,val_top1,images_per_second,seconds"


def write(path, *epochs):
    path.write_text("\n".join([HEADER, *(f"{e},0.1,{loss},0.9,0.5,{top1},100,1" for e, loss, top1 in epochs)]) + "\n")
    return path


def test_epochs_are_read(tmp_path):
    history = read_history(write(tmp_path / "history.csv", (1, 0.5, 0.8), (2, 0.25, 0.9)))
    assert list(history.columns) == ["epoch", "train_loss", "val_top1"]
    assert history.to_numpy().tolist() == [[1, 0.5, 0.8], [2, 0.25, 0.9]]


def test_seeds_are_joined_by_epoch(tmp_path):
    paths = [
        write(tmp_path / "a.csv", (1, 0.5, 0.8), (2, 0.25, 0.9)),
        write(tmp_path / "b.csv", (1, 0.75, 0.7), (2, 0.75, 0.8)),
    ]
    joined = mean_history(paths)
    assert joined.train_loss.to_list() == [0.625, 0.5]
    assert joined.train_loss_low.to_list() == [0.5, 0.25]
    assert joined.train_loss_high.to_list() == [0.75, 0.75]
    assert joined.val_top1.to_list() == pytest.approx([75, 85])
    assert joined.val_top1_low.to_list() == pytest.approx([70, 80])
    assert joined.val_top1_high.to_list() == pytest.approx([80, 90])


def test_a_net_that_was_not_trained_has_no_rows(tmp_path):
    path = write(tmp_path / "history.csv")
    assert len(read_history(path)) == 0
    assert len(mean_history([path, path])) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a readable table"),
        ("epoch,val_top1\n1,0.5\n", "no column 'train_loss'; there are epoch, val_top1"),
        ("epoch,train_loss,val_top1\n1,0.5,0.5\n2,broken,0.5\n", "train_loss in row 2 is not a finite number"),
        ("epoch,train_loss,val_top1\n1,0.5,\n", "val_top1 in row 1 is not a finite number"),
        ("epoch,train_loss,val_top1\n1,inf,0.5\n", "train_loss in row 1 is not a finite number"),
    ],
)
def test_damaged_histories_are_named(tmp_path, content, message):
    path = tmp_path / "history.csv"
    path.write_text(content)
    with pytest.raises(FileError, match=rf"history\.csv: {message}"):
        read_history(path)


def test_a_missing_history_is_named(tmp_path):
    with pytest.raises(FileError, match=r"history\.csv: no such file"):
        read_history(tmp_path / "history.csv")
