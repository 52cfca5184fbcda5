"""MLflow's own pages in a browser: how far it is from an experiment to its comparison, and what is drawn there."""

from __future__ import annotations

import pytest

from oba.layout import Coordinates
from oba.stages.descriptions import experiment_tags
from oba.stages.identities import chain_identity
from oba.tracking import RunIdentity, begin, stage_run, sync
from oba.tracking.links import charts_of

pytestmark = pytest.mark.slow
METHODS = ["zeta", *(f"method-{n:02}" for n in range(9)), "alpha"]
"""Eleven, of which MLflow shows ten unless it is told otherwise; the first one is the last to be sent."""
SECONDS = 120_000
DRAWN = """() => {
  const plots = [...document.querySelectorAll('.js-plotly-plot')].filter(plot => plot.data && plot.data.length);
  return plots.map(plot => ({
    title: plot.closest('[data-testid="experiment-view-compare-runs-card"]')?.innerText.split('\\n')[0] ?? '',
    lines: Object.fromEntries(plot.data.map(line => [line.name, [line.x, line.y]])),
  }));
}"""


@pytest.fixture
def sweep(site, study):
    """Two levels of eleven chains."""
    methods = [{"name": name, "criterion": "random"} for name in METHODS]
    sweep = study(experiment=site.experiment, methods=methods)
    assert begin(site.experiment, site.uri, site.results, experiment_tags(sweep))
    options = {"uri": site.uri, "results_dir": site.results, "min_seconds": float("inf")}
    for number, name in reversed([*enumerate(METHODS)]):
        chain = chain_identity(sweep, Coordinates("resnet8", 0, name, "iterative"))
        for keep, removed in ((0.6, 40), (0.3, 70)):
            identity = RunIdentity(site.experiment, f"{name}/{keep}", f"{name} {keep}", chain)
            with stage_run(site.journal(f"{name}-{removed}"), identity, **options) as run:
                run.chain_metrics({"test_top1": 0.99, "test_loss": 0.1}, step=0)
                run.chain_metrics({"test_top1": 0.9 - number / 100 - removed / 1000, "test_loss": 1.0}, step=removed)
    sync(sorted(site.folder.glob("journal/*.jsonl")), site.uri, site.results)
    return sweep


def lines_of(page):
    """Return the lines of the chart of accuracies, once all are drawn."""
    page.wait_for_function(
        f"({DRAWN})().some(chart => Object.keys(chart.lines).length >= {len(METHODS)})", timeout=SECONDS
    )
    return next(
        chart["lines"] for chart in page.evaluate(DRAWN) if max(chart["lines"]["alpha seed0 resnet8"][1]) == 0.99
    )


def expected():
    """Return the lines that there should be, in the study's order."""
    points = [(0, 40, 70)] * len(METHODS)
    return {
        f"{name} seed0 resnet8": [list(steps), [0.99, *(pytest.approx(0.9 - n / 100 - r / 1000) for r in steps[1:])]]
        for n, (name, steps) in enumerate(zip(METHODS, points, strict=True))
    }


@pytest.mark.parametrize("server", ["sqlite"], indirect=True)
def test_two_clicks_lead_from_the_experiment_to_a_line_for_each_method(server, site, sweep, chromium):
    number = site.client.get_experiment_by_name(site.experiment).experiment_id
    context = chromium.new_context(viewport={"width": 1600, "height": 950})
    page = context.new_page()
    page.goto(f"{server.uri}/#/experiments/{number}")
    clicks = 1
    page.get_by_role("button", name="Got it").click(timeout=SECONDS)  # what MLflow tells new users
    clicks += 1
    with context.expect_page() as opened:
        page.get_by_role("link", name="Accuracy against MACs removed").click(timeout=SECONDS)
    lines = lines_of(opened.value)
    assert lines == expected()
    assert list(lines) == list(expected())
    assert clicks < 5
    shown = opened.value.get_by_role("link", name="seed0 resnet8").all_inner_texts()
    assert shown == list(expected())
    # The same without the description: what everybody finds in MLflow's own menu.
    page.goto(f"{server.uri}/#/experiments/{number}/runs?workflowType=machine_learning")
    for step in (
        page.get_by_test_id("saved-views-trigger"),
        page.get_by_text("Accuracy against MACs removed", exact=True),
        page.locator(
            ".du-bois-light-radio-button-wrapper:has(input[value=CHART]), label:has(input[value=CHART])"
        ).first,
    ):
        step.click(timeout=SECONDS)
    assert lines_of(page) == expected()
    # And the link that is printed.
    page = context.new_page()
    page.goto(f"{server.uri}/{charts_of(site.folder / 'journal', site.uri)}")
    assert lines_of(page) == expected()
    context.close()
