"""Settings of all tests: few threads, deterministic property tests, a minimal study."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from oba.config import Study
from oba.study import parse_study

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("MLFLOW_TRACKING_URI", None)
# `make test &` in a script ignores Ctrl-C, and so would all that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A shared machine may be slow at any moment; a failing example is found again from its printed blob.
settings.register_profile("repository", deadline=None, derandomize=True, print_blob=True)
# Other examples at every run, and many: `pytest tests/fuzz --hypothesis-profile long`.
settings.register_profile("long", settings.get_profile("repository"), derandomize=False, max_examples=3000)
settings.load_profile("repository")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow tests last, and first of them the storm, one of the longest."""
    items.sort(key=lambda item: (item.get_closest_marker("slow") is not None, "storm" not in item.nodeid))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A browser without a window; there is no network for its pages."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        # Where the tests must not be passed over, a missing package is a failure.
        (pytest.fail if os.environ.get("OBA_REQUIRE_ALL") else pytest.skip)("no browser: chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


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


@pytest.fixture
def study() -> Callable[..., Study]:
    """Return a function that makes a study of a small net on digits, with some sections replaced."""

    def make(**changes: Any) -> Study:
        values = {
            "experiment": "tiny",
            "data": {"name": "digits"},
            "models": ["resnet8"],
            "seeds": [0],
            "methods": ["taylor"],
            "keep": [0.6, 0.3],
            "dense": {"epochs": 2},
            "finetune": {"epochs": 1},
        }
        return parse_study(values | changes, "study")

    return make


@pytest.fixture
def changed() -> Callable[..., dict[str, Any]]:
    """Return a function: a copy of plain values with a dotted key set, or removed for ``...``."""

    def change(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
        values = deepcopy(values)
        *path, last = key.split(".")
        section = values
        for part in path:
            section = section.setdefault(part, {})
        if value is ...:
            del section[last]
        else:
            section[last] = value
        return values

    return change


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    """Return a folder of two classes of coloured images, without a test set of its own."""
    for label in "ab":
        folder = tmp_path / "pictures" / label
        folder.mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (32, 32), (i, i, i)).save(folder / f"{i}.png")
    return str(tmp_path / "pictures")
