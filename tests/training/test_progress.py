from __future__ import annotations

import io
from dataclasses import replace

import pytest

from oba.training.progress import Progress, duration, epoch_line
from oba.training.records import EpochRecord

RECORD = EpochRecord(3, 0.0814, 0.4123, 0.8713, 0.3, 0.9124, 12345.4, 0.7)


def test_an_epochs_line() -> None:
    assert epoch_line("dense resnet8 seed 0", RECORD, 20, 12.2) == (
        "dense resnet8 seed 0  epoch  3/20  loss 0.412  train  87.1 %  val  91.2 %  lr 0.0814       12,345 images/s"
        "  left 0:12"
    )


def test_columns_stand_below_each_other() -> None:
    other = replace(RECORD, epoch=20, lr=1e-5, train_top1=1.0, val_top1=0.05, images_per_second=99.0)
    lines = [epoch_line("x", record, 20, 5) for record in (RECORD, other)]
    assert [line.index("left") for line in lines] == [lines[0].index("left")] * 2


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (754, "12:34"), (3600, "1:00:00"), (36_061, "10:01:01")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def show(stream: io.StringIO) -> str:
    with Progress("dense [resnet8]", 20, stream) as progress:
        progress.start(3, 2)
        progress.step()
        progress.step()
        progress.finish([replace(RECORD, epoch=2, seconds=0.3), RECORD])
    return stream.getvalue()


def test_a_log_gets_one_plain_line_per_epoch() -> None:
    assert show(io.StringIO()) == epoch_line("dense [resnet8]", RECORD, 20, 17 * 0.5) + "\n"


def test_a_terminal_gets_a_bar_too() -> None:
    shown = show(Terminal())
    assert epoch_line("dense [resnet8]", RECORD, 20, 17 * 0.5) in shown
    assert "2/2" in shown


def test_the_bar_goes_away_when_training_fails() -> None:
    stream = Terminal()

    def fail() -> None:
        with Progress("x", 2, stream) as progress:
            progress.start(1, 2)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert stream.getvalue().endswith(("\x1b[?25h", "\x1b[2K"))  # cursor shown again, line erased


def test_a_quiet_display_shows_nothing() -> None:
    stream = io.StringIO()
    with Progress("x", 2, stream, quiet=True) as progress:
        progress.start(1, 2)
        progress.step()
        progress.finish([replace(RECORD, epoch=1)])
    assert stream.getvalue() == ""
