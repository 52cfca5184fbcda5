"""Names as arrays."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oba.data.names import Names


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20), max_size=20))
def test_names_come_back(names: list[str]) -> None:
    packed = Names.of(names)
    assert len(packed) == len(names)
    assert [packed[index] for index in range(len(names))] == names
    assert packed.text.dtype == np.uint8
    assert packed.ends.dtype == np.int64


def test_names_that_are_no_text_come_back() -> None:
    names = ["a.jpg", b"\xff.jpg".decode(errors="surrogateescape")]
    assert Names.of(names)[1] == names[1]
