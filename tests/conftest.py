"""Settings of all tests: few threads, deterministic property tests, a minimal study."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("MLFLOW_TRACKING_URI", None)

# A shared machine may be slow at any moment; a failing example is found again from its printed blob.
settings.register_profile("repository", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("repository")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow tests last."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture
def study_values() -> dict[str, Any]:
    """The least that a study must say."""
    return {
        "experiment": "tiny",
        "data": {"name": "digits"},
        "models": ["resnet8"],
        "seeds": [0],
        "methods": ["magnitude"],
        "keep": [0.6, 0.3],
        "dense": {"epochs": 2},
        "finetune": {"epochs": 1},
    }
