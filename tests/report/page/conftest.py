"""Pages of made-up sweeps, as values and in a browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from oba.report.collect import collect
from oba.report.page.facts import Facts
from oba.report.page.payload import payload
from oba.report.page.render import render
from oba.report.summarize import summarize


@pytest.fixture
def values(make_sweep) -> Callable[..., dict[str, Any]]:
    """Return a function: what the page of a sweep shows. ``missing`` names nets that are missing, with the reason."""

    def make(missing=lambda net: "", facts=Facts(), title="digits", **options) -> dict[str, Any]:  # noqa: B008
        nets = make_sweep(**options).write()
        runs = collect(nets, {net: reason for net in nets if (reason := missing(net))})
        methods, masking = options.get("methods", ("oba-joint",)), options.get("masking", ())
        firsts = [next(iter(group)) for group in ([m for m in methods if m not in masking], masking) if group]
        return payload(nets, runs, summarize(runs, *firsts), title, facts)

    return make


@pytest.fixture
def with_classes(make_sweep) -> Callable[..., None]:
    """Return a function that has the evaluations of a sweep count classes; the sweep is written again by `values`."""

    def count(monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
        sweep = type(make_sweep())
        original = sweep._net

        def net(self, directory: Path, *measures: Any) -> None:
            original(self, directory, *measures)
            path = directory / "evaluation.json"
            wrong = [[0, 1, 5], [classes - 1, 0, 2]]
            counts = {"class_images": [20] * classes, "class_correct": [15, *[20] * (classes - 2), 18]}
            path.write_text(json.dumps(json.loads(path.read_text()) | counts | {"confusions": wrong}))

        monkeypatch.setattr(sweep, "_net", net)

    return count


@pytest.fixture
def opened(chromium: Browser, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a page of some values; errors in the console fail the test."""
    contexts, errors, asked = [], [], []

    def open_page(shown: dict[str, Any], width: int = 1400, scheme: Any = "light") -> Page:
        path = tmp_path / "index.html"
        path.write_text(render(shown), encoding="utf-8")
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "request",
            lambda request: None if request.url.startswith(("file:", "data:")) else errors.append(request.url),
        )
        page.goto(path.as_uri())
        page.wait_for_timeout(0)
        assert errors == []
        assert page.locator("footer").is_visible()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
