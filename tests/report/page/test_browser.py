"""The page in a browser: it draws, sorts, filters and switches, at both sizes and in both themes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from oba.report.page.facts import Facts, JobFiles, StageJobs

HOSTILE = '</script><script>window.broken = 1</script>"\'<img src=x onerror="window.broken=1"><!--'


def cells(page, table, column):
    return page.locator(f"#{table} tbody tr td:nth-child({column})").all_inner_texts()


def lines(page, chart="tradeoff-chart"):
    """The names of the lines that a chart shows with points."""
    return page.evaluate(f"document.getElementById('{chart}').data.filter(t => t.x.length).map(t => t.name)")


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_everything_is_drawn_in_the_order_of_a_first_reader(values, opened, with_classes, monkeypatch):
    with_classes(monkeypatch, 10)
    facts = Facts(stages=[StageJobs("prepare", [JobFiles(Path("none"))])])
    page = opened(values(controls=("scratch", "dense-longer"), facts=facts))
    assert page.locator("h1").inner_text() == "digits"
    headings = page.locator("section h2").all_inner_texts()
    wanted = ["Accuracy against cost", "Results", "Where it was cut", "Training", "Class by class", "What it cost"]
    assert headings == [*wanted, "Provenance"]
    assert page.locator("nav a").all_inner_texts() == headings
    for chart in ("tradeoff-chart", "recovery-chart", "accuracy-chart", "loss-chart"):
        assert page.locator(f"#{chart} .scatterlayer .trace").count() >= 3, chart
        assert page.locator(f"#{chart} .scatterlayer path.js-line, #{chart} .scatterlayer .point").count() > 3, chart
    assert set(lines(page)) == {"dense", "oba-joint", "taylor", "magnitude", "dense-longer"}
    assert page.locator("#layers-map tbody tr").count() == 7
    assert page.locator("#confusions tbody tr").count() == 10


def test_sorting_sorts_both_ways_and_filtering_filters(values, opened):
    page = opened(values(seeds=(0,)))
    heading = page.locator("#runs-table thead button", has_text="Top-1 %")
    heading.click()
    falling = [float(text) for text in cells(page, "runs-table", 4)]
    assert falling == sorted(falling, reverse=True)
    assert len(set(falling)) > 5
    assert page.locator("#runs-table th[aria-sort=descending]").count() == 1
    heading.focus()
    page.keyboard.press("Enter")
    assert [float(text) for text in cells(page, "runs-table", 4)] == falling[::-1]
    page.get_by_label("Filter All networks").fill("taylor 0.50")
    assert cells(page, "runs-table", 1) == [" taylor"] or [c.strip() for c in cells(page, "runs-table", 1)] == [
        "taylor"
    ]
    page.get_by_label("Filter All networks").fill("nothing like this")
    assert "No rows." in page.locator("#runs-table tbody").inner_text()


def test_the_legend_and_the_axis_switch_the_chart(values, opened):
    page = opened(values())
    button = page.locator("#legend button", has_text="taylor")
    button.focus()
    page.keyboard.press("Space")
    assert "taylor" not in lines(page)
    assert button.get_attribute("aria-pressed") == "false"
    assert "taylor" not in page.locator("#layers-map thead").inner_text()
    assert page.evaluate("document.activeElement.textContent") == "taylor", "the keyboard stays where it was"
    page.get_by_role("button", name="Show all").click()
    assert "taylor" in lines(page)
    of_macs = page.evaluate("document.getElementById('tradeoff-chart').data[0].x")
    for name in ("Parameters", "Latency"):
        page.get_by_role("button", name=name, exact=True).click()
        assert name in page.evaluate("document.getElementById('tradeoff-chart').layout.xaxis.title.text")
        assert "taylor" in lines(page)
    assert page.evaluate("document.getElementById('tradeoff-chart').data[0].x") != of_macs


def test_methods_of_the_same_accuracy_do_not_hide_each_other(values, opened, monkeypatch, make_sweep):
    monkeypatch.setattr(type(make_sweep()), "top1", lambda self, model, seed, method, keep, scratch=False: 0.9)
    page = opened(values(keep=(0.5,)))
    places = page.evaluate(
        "[...document.querySelectorAll('#tradeoff-chart .trace')]"
        ".map(t => [...t.querySelectorAll('.point')].pop().getBoundingClientRect().x).sort((a, b) => a - b)"
    )
    assert len(places) == 4
    assert min(b - a for a, b in pairwise(places)) > 7


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_and_sizes_fit(values, opened, width, scheme, with_classes, monkeypatch):
    with_classes(monkeypatch, 10)
    page = opened(values(schedules=("iterative", "oneshot"), models=("resnet20", "vgg19")), width, scheme)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert fits(page)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != paper
    assert page.evaluate("document.documentElement.dataset.theme") != scheme
    assert fits(page)


def test_names_cannot_break_out(values, opened, with_classes, monkeypatch):
    with_classes(monkeypatch, 3)
    facts = Facts(settings={HOSTILE: HOSTILE}, data={"name": HOSTILE, "classes": [HOSTILE, "b", "c"]})
    shown = values(
        lambda net: HOSTILE if net.keep == 0.3 else "", facts, title=HOSTILE, layers={HOSTILE: 16, "layer.b": 8}
    )
    shown["methods"][1]["name"] = HOSTILE
    for table in ("runs", "summary"):
        names = shown[table]["method"]["names"]
        names[names.index("oba-joint")] = HOSTILE
    page = opened(shown)
    assert page.evaluate("window.broken") is None
    assert page.locator("h1").inner_text() == HOSTILE
    assert page.locator("#legend button").first.inner_text() == HOSTILE
    assert page.locator("#layers-map tbody th").first.inner_text() == HOSTILE
    assert page.locator("img").count() == 0
    assert HOSTILE in page.locator("#missing").text_content()
    page.locator("summary", has_text="Settings").click()
    assert "onerror" in page.locator("#settings").inner_text()


def test_the_data_set_is_told_with_all_its_images(values, opened):
    sizes = {"train_images": 360, "val_images": 108, "test_images": 180, "input_size": [3, 64, 64]}
    page = opened(values(facts=Facts(data={"name": "pets", "classes": ["a", "b", "c"], **sizes})))
    assert page.locator(".facts dd").first.inner_text() == "pets (3 × 64 × 64, 3 classes, 648 images)"


def test_missing_nets_are_told_first_and_listed(values, opened):
    page = opened(values(lambda net: "prune failed: no" if net.method == "taylor" and net.seed == 1 else ""))
    assert "3 of 20 nets are missing" in page.locator(".alerts").inner_text()
    assert "17 of 20 finished" in page.locator("header").inner_text()
    page.locator("#missing summary").click()
    assert page.locator("#missing li").count() == 3
    page.get_by_label("Filter All networks").fill("prune failed")
    assert page.locator("#runs-table tbody tr").count() == 3


def test_a_sweep_of_which_only_the_dense_net_is_there_has_a_page(values, opened):
    page = opened(values(lambda net: "not run" if net.is_pruned else ""))
    assert "no pruned network is finished" in page.locator("header").inner_text()
    assert lines(page) == ["dense"]
    assert page.locator("section h2").all_inner_texts() == [
        "Accuracy against cost",
        "Results",
        "Training",
        "Provenance",
    ]


def test_methods_that_remove_weights_have_their_own_axis_and_map(values, opened):
    page = opened(values(methods=("oba-joint", "magnitude"), masking=("magnitude",)))
    assert set(lines(page)) == {"dense", "oba-joint"}
    page.get_by_label("Removed").select_option("weights")
    assert set(lines(page)) == {"dense", "magnitude"}
    assert "Weights" in page.evaluate("document.getElementById('tradeoff-chart').layout.xaxis.title.text")
    page.locator("#layers").get_by_label("Model").select_option(index=1)
    assert page.locator("#layers-map thead").inner_text().count("magnitude") == 1


def test_many_seeds_can_be_looked_at_one_by_one(values, opened):
    page = opened(values(seeds=tuple(range(6)), methods=("oba-joint",), keep=(0.5,)))
    assert "±" in page.locator("header").inner_text()
    of_all = page.locator("#layers-map tbody").inner_text()
    page.locator("#layers").get_by_label("Seed").select_option("3")
    assert page.locator("#layers-map tbody").inner_text() != of_all


def test_thousands_of_rows_are_a_page_at_a_time(values, opened):
    shown = values(seeds=(0,), methods=("oba-joint",), keep=(0.5,))
    for name, column in shown["runs"].items():
        codes = column["codes"] if isinstance(column, dict) else column
        codes += codes[1:2] * 5000
        if name == "test_top1":
            codes[2:] = [i / 10000 for i in range(len(codes) - 2)]
    page = opened(shown)
    assert page.locator("#runs-table tbody tr").count() == 50
    heading = page.locator("#runs-table thead button", has_text="Top-1 %")
    heading.click()
    heading.click()
    assert cells(page, "runs-table", 4)[:2] == ["0.00", "0.01"]
    page.locator("#results").get_by_role("button", name="Next").locator("visible=true").click()
    assert cells(page, "runs-table", 4)[0] == "0.50"
    assert "51 to 100 shown" in page.locator("#results").inner_text()


def test_charts_follow_the_width_of_the_window(values, opened):
    page = opened(values())
    page.set_viewport_size({"width": 700, "height": 900})
    page.wait_for_function("document.querySelector('#tradeoff-chart .main-svg').getBoundingClientRect().width < 700")
    assert fits(page)


def test_it_prints_without_controls_on_white_paper(values, opened):
    page = opened(values(), scheme="dark")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert page.evaluate("document.querySelector('#tradeoff-chart .main-svg').getBoundingClientRect().width") == 660
    assert not page.locator("nav").is_visible()
    assert not page.locator("#results .controls").first.is_visible()
    assert page.locator("#summary-table").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
