from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_weights_in_every_test() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
