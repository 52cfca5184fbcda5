from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from oba.report.collect import collect
from oba.report.notes import notes
from oba.report.summarize import summarize
from oba.report.table import print_table, summary_markdown


@pytest.fixture
def tables_of(make_sweep):
    def find(**options):
        runs = collect(make_sweep(**options).write())
        return summarize(runs, "oba-joint"), runs

    return find


def printed(summary, runs, width=100):
    stream = io.StringIO()
    print_table(summary, runs, Console(file=stream, width=width, color_system=None))
    return stream.getvalue()


def rows_of(markdown):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if line[:1] == "|"]


def test_markdown_shows_rounded_numbers(tables_of):
    summary, runs = tables_of(methods=("oba-joint", "taylor"), keep=(0.5,))
    first, second = (summary.method == "oba-joint"), (summary.method == "taylor")
    shown = ["top1_percent", "top1_percent_std", "drop_points", "drop_points_std"]
    summary.loc[first, shown] = [93.14, 0.26, -0.04, 0.0]
    summary.loc[second, ["versus_points", "versus_points_std"]] = [-1.25001, 0.3]
    header, _, dense, *rows = rows_of(summary_markdown(summary, runs, "digits"))
    assert header == [
        "keep", "net", "n", "top-1 %", "drop, points", "MACs %", "params %", "speedup", "vs oba-joint",
    ]  # fmt: skip
    assert dense[:3] == ["1.00", "dense", "2"]
    assert dense[4] == dense[8] == ""
    assert rows[0][:5] == ["0.50", "oba-joint", "2", "93.1 ± 0.3", "0.0 ± 0.0"]
    assert rows[0][8] == ""
    assert rows[1][8] == "\N{MINUS SIGN}1.3 ± 0.3"


def test_granularities_have_tables_of_their_own(tables_of):
    summary, runs = tables_of(seeds=(0,), methods=("oba-joint", "taylor"), keep=(0.5,), masking=("taylor",))
    page = summary_markdown(summary, runs, "digits")
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## resnet20, structures",
        "## resnet20, weights",
    ]
    head, _, dense, joint, other, _, whole, taylor = rows_of(page)
    assert (head[5:7], other[5:7]) == (["MACs %", "params %"], ["weights %", "MACs %"])
    assert (joint[1], taylor[1], dense[1], whole[1]) == ("oba-joint", "taylor", "dense", "dense")
    kept = summary[summary.method == "taylor"].weights_kept_percent.iloc[0]
    assert (whole[5:7], taylor[5:7]) == (["100.0", "100.0"], [f"{kept:.1f}", "100.0"])
    assert "resnet20, weights" in printed(summary, runs)


def test_one_seed_has_no_spread(tables_of):
    summary, runs = tables_of(seeds=(0,), controls=("scratch",))
    page = summary_markdown(summary, runs, "digits")
    assert all("±" not in cell for row in rows_of(page) for cell in row)
    assert "One seed" in page


def test_many_seeds_have_a_second_decimal(tables_of):
    summary, runs = tables_of(seeds=(0, 1, 2, 3, 4), methods=("oba-joint",), keep=(0.5,))
    summary.loc[:, "top1_percent"], summary.loc[:, "top1_percent_std"] = 93.146, 0.264
    assert "93.15 ± 0.26" in summary_markdown(summary, runs, "digits")
    summary.loc[0, "seeds"] = 4
    assert "93.1 ± 0.3" in summary_markdown(summary, runs, "digits")


def test_markdown_has_heading_notes_and_pictures(tables_of):
    summary, runs = tables_of(warnings=True)
    page = summary_markdown(summary, runs, "digits")
    assert page.startswith("# digits\n\n## resnet20\n")
    assert [line[2:] for line in page.splitlines() if line.startswith("- ")] == notes(summary, runs)
    for name in ("tradeoff.png", "channels.png", "curves.png"):
        assert f"]({name})" in page


def test_several_schedules_have_a_table_each_with_the_dense_net(tables_of):
    page = summary_markdown(*tables_of(schedules=("iterative", "oneshot"), models=("resnet20", "vgg19")), "digits")
    headings = [line[3:] for line in page.splitlines() if line.startswith("## ")]
    assert headings == ["resnet20, iterative", "resnet20, oneshot", "vgg19, iterative", "vgg19, oneshot"]
    assert [row[1] for row in rows_of(page)].count("dense") == 4


def test_without_comparison_there_is_no_column_for_it(tables_of):
    assert rows_of(summary_markdown(*tables_of(methods=("oba-joint",)), "digits"))[0][-1] == "speedup"


def test_controls_are_named(tables_of):
    page = summary_markdown(*tables_of(controls=("scratch", "dense-longer")), "digits")
    names = {row[1] for row in rows_of(page)}
    assert {"oba-joint, scratch", "taylor, scratch", "magnitude, scratch", "dense-longer", "dense"} <= names


def test_terminal_table_fits_100_columns_unbroken(tables_of):
    summary, runs = tables_of(seeds=(0, 1, 2, 3, 4), controls=("scratch", "dense-longer"), warnings=True)
    text = printed(summary, runs)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert len([line for line in lines if re.match(r" [01]\.\d\d  \S", line)]) == len(summary)
    assert "magnitude, scratch" in text
    assert "…" not in text


def test_terminal_shows_all_notes(tables_of):
    summary, runs = tables_of(warnings=True, faster=False, update=str.upper)
    text = " ".join(printed(summary, runs).split())
    for note in notes(summary, runs):
        assert note in text


def test_terminal_keeps_brackets_in_notes(tables_of):
    summary, runs = tables_of(warnings=True)
    runs.loc[runs.warnings > 0, "warning_text"] = "layer [bold] keeps 1 of 9"
    assert "layer [bold] keeps 1 of 9" in " ".join(printed(summary, runs).split())


def test_missing_nets_are_listed_on_the_page_and_on_the_terminal(make_sweep):
    nets = make_sweep(seeds=(0,), methods=("oba-joint", "taylor")).write()
    reason = "prune failed: keep=0.50 cannot be reached [the floors of 'layer1.0.conv1' and others do not allow it]"
    runs = collect(nets, {nets[2]: reason})
    summary = summarize(runs, "oba-joint")
    line = f"resnet20 oba-joint iterative keep 0.50 (seed 0): {reason}"
    page = summary_markdown(summary, runs, "digits")
    assert f"\n\n## Missing\n\n- {line}\n\n![" in page
    text = printed(summary, runs)
    assert f"Missing - {line}" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100
    complete = collect(nets)
    assert "Missing" not in summary_markdown(summary, complete, "digits") + printed(summary, complete)
