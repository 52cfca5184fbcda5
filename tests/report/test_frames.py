from __future__ import annotations

import pandas as pd
import pytest

from oba.errors import FileError
from oba.report.frames import grouped, read_csv, read_table, records, where


@pytest.fixture
def frame():
    return pd.DataFrame({"name": ["b", "a", "b"], "value": [1, 2, 3]})


def test_rows_are_chosen_in_order(frame):
    assert [row.value for row in records(where(frame, frame.name == "b"))] == [1, 3]


def test_groups_come_in_order_of_appearance(frame):
    assert [(key, list(group.value)) for key, group in grouped(frame, ["name"])] == [(("b",), [1, 3]), (("a",), [2])]


def test_blanks_are_missing_numbers_and_empty_texts(tmp_path):
    (tmp_path / "t.csv").write_text("word,number\n,1.5\nNA,\n")
    frame = read_table(tmp_path / "t.csv", ["word", "number"], ["word"])
    assert list(frame.word) == ["", "NA"]
    assert frame.number.iloc[0] == 1.5
    assert pd.isna(frame.number.iloc[1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a readable table"),
        ("word\nx\n", "columns word; expected word, number"),
        ("word,number\nx,many\n", "column number holds 'many'; expected numbers"),
        ("word,number\n", "holds no row; expected one for each net or level"),
    ],
)
def test_damaged_tables_are_named(tmp_path, content, message):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(FileError, match=rf"t\.csv: {message}"):
        read_table(tmp_path / "t.csv", ["word", "number"], ["word"])


def test_missing_table(tmp_path):
    with pytest.raises(FileError, match=r"t\.csv: no such file"):
        read_csv(tmp_path / "t.csv")
