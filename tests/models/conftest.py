from __future__ import annotations

from collections.abc import Iterator

import pytest

from oba.training.device import seeded


@pytest.fixture(autouse=True)
def _same_weights_in_every_test() -> Iterator[None]:
    with seeded(0):
        yield
