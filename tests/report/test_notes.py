from __future__ import annotations

import pytest

from oba.records import Duplicates
from oba.report.collect import collect
from oba.report.notes import enumerate_some, missing_nets, notes
from oba.report.summarize import summarize


@pytest.fixture
def notes_of(make_sweep):
    def find(**options):
        runs = collect(make_sweep(**options).write())
        return notes(summarize(runs, "oba-joint"), runs)

    return find


def starting(found, beginning):
    return [note for note in found if note.startswith(beginning)]


def test_a_plain_sweep_has_the_plain_notes_only(notes_of):
    found = notes_of()
    assert [note.split()[0] for note in found] == ["Means", "2000", "vs", "Speedup:"]
    assert found[0] == "Means over 2 seeds, ± the sample standard deviation."
    assert found[3].endswith("median of 30 paired timings (cpu, 1 thread, batch 32).")


def test_what_levels_of_weights_mean_is_said(notes_of):
    found = notes_of(masking=("taylor", "magnitude"), faster=False)
    (note,) = starting(found, "taylor, magnitude: keep is a fraction of the weights")
    assert "MACs, parameters and speedup are those of dense kernels" in note
    (slow,) = starting(found, "resnet20: fewer MACs")
    assert "in 3 of 3 pruned nets: oba-joint" in slow
    assert "taylor" not in slow


def test_one_seed_is_said(notes_of):
    found = notes_of(seeds=(3,))
    assert found[0].startswith("One seed: no spread")
    assert not starting(found, "Means")


def test_nets_of_fewer_seeds_are_said(make_sweep):
    runs = collect(make_sweep().write())
    runs = runs[~((runs.seed == 1) & (runs.method == "taylor"))]
    assert notes(summarize(runs, "oba-joint"), runs)[0].startswith("Means over 1 to 2 seeds")
    assert "nets of one seed have no ±" in notes(summarize(runs, "oba-joint"), runs)[0]


def test_standard_error_of_the_test_set(make_sweep):
    runs = collect(make_sweep(seeds=(0,), test_images=400).write())
    runs.loc[:, "test_top1"] = 0.8
    runs.loc[0, "test_top1"] = 0.9
    found = starting(notes(summarize(runs, "oba-joint"), runs), "400 test images")
    # sqrt(0.9 * 0.1 / 400) = 0.015, sqrt(0.8 * 0.2 / 400) = 0.02
    assert "is 1.5 points at 90.0 % and 2 at 80.0 %;" in found[0]


def test_the_comparison_is_explained_only_where_there_is_one(notes_of):
    assert "`oba-joint`" in starting(notes_of(), "vs oba-joint")[0]
    assert not starting(notes_of(methods=("oba-joint",)), "vs")


def test_controls_are_explained_only_where_there_are_any(notes_of):
    both = notes_of(controls=("scratch", "dense-longer"))
    assert len(starting(both, "scratch:")) == len(starting(both, "dense-longer:")) == 1
    assert not starting(notes_of(controls=("scratch",)), "dense-longer:")
    assert not starting(notes_of(controls=("dense-longer",)), "scratch:")


def test_nets_that_are_not_faster_are_named(notes_of):
    (note,) = [n for n in notes_of(faster=False, methods=("oba-joint",), keep=(0.5, 0.3)) if "no speedup" in n]
    assert note.startswith("resnet20: fewer MACs but no speedup in 2 of 2 pruned nets: oba-joint iterative ")
    assert "with 29 % of MACs: speedup 1.02 (quartiles 0.98\N{EN DASH}1.07); oba-joint iterative with 49 %" in note


def test_faster_nets_need_no_note(notes_of):
    assert not [n for n in notes_of(controls=("scratch", "dense-longer")) if "no speedup" in n]


def test_only_slow_nets_are_listed_by_model(make_sweep):
    runs = collect(make_sweep(models=("resnet20", "vgg19")).write())
    slow = (runs.model == "vgg19") & (runs.method == "taylor") & (runs.keep == 0.7)
    runs.loc[slow, "speedup_low"] = 1.0
    (note,) = [n for n in notes(summarize(runs, "oba-joint"), runs) if "no speedup" in n]
    assert note.startswith("vgg19: fewer MACs but no speedup in 1 of 9 pruned nets: taylor iterative with")


def test_layers_cut_through_are_named_with_seeds_together(notes_of):
    (note,) = starting(notes_of(warnings=True, methods=("oba-joint",)), "Layers cut through")
    assert note == (
        "Layers cut through in 2 of 6 pruned nets: resnet20 oba-joint iterative keep 0.30 (seeds 0, 1): "
        "layer2.0.conv1 keeps 1 of 32 channels."
    )


def test_of_many_layers_cut_through_the_first_are_named(make_sweep):
    runs = collect(make_sweep(warnings=True, methods=("oba-joint",)).write())
    named = {count: " | ".join(f"layer {i}" for i in range(count)) for count in (3, 5)}
    runs.loc[runs.warnings > 0, "warning_text"] = [named[3], named[5]]
    (note,) = starting(notes(summarize(runs, ["oba-joint"]), runs), "Layers cut through")
    assert "(seed 0): layer 0 | layer 1 | layer 2; " in note
    assert note.endswith("(seed 1): layer 0 | layer 1 | 3 layers more.")


def test_scratch_nets_do_not_count_as_cut_through_twice(notes_of):
    (note,) = starting(notes_of(warnings=True, methods=("oba-joint",), controls=("scratch",)), "Layers cut through")
    assert note.startswith("Layers cut through in 2 of 6 pruned nets")


def test_updates_are_named_where_methods_differ(notes_of):
    assert not starting(notes_of(), "Update")
    (note,) = starting(notes_of(update=lambda m: "least-squares" if m == "taylor" else "norm"), "Update")
    assert note.endswith("before fine-tuning: norm in oba-joint, magnitude; least-squares in taylor.")


def test_missing_nets_are_counted_and_named(make_sweep):
    nets = make_sweep(controls=("scratch",), methods=("oba-joint",)).write()
    gone = [net for net in nets if net.seed == 1 and net.keep == 0.3]
    runs = collect(nets, dict.fromkeys(gone, "prune failed: no"))
    summary = summarize(runs, "oba-joint")
    assert list(summary.seeds) == [2, 2, 2, 2, 2, 1, 1]
    assert notes(summary, runs)[0].startswith("2 of 14 nets are missing (see Missing): means are over the n seeds")
    assert missing_nets(runs) == [
        "resnet20 oba-joint iterative keep 0.30 (seed 1): prune failed: no",
        "resnet20 oba-joint iterative keep 0.30, scratch (seed 1): prune failed: no",
    ]
    runs = collect(nets, {gone[0]: "no"})
    assert notes(summarize(runs, "oba-joint"), runs)[0].startswith("1 of 14 nets is missing")


def test_identical_images_are_counted_by_seed(make_sweep):
    nets = make_sweep().write()
    counts = {0: {"test in train": 3, "val in train": 1}, 1: {"test in train": 0}}
    found = {seed: Duplicates(counts=pairs, examples=[]) for seed, pairs in counts.items()}
    runs = collect(nets, duplicates=found)
    (note,) = starting(notes(summarize(runs, "oba-joint"), runs), "Identical images")
    assert "(seed 0: 3 test in train, 1 val in train)" in note
    runs = collect(nets, duplicates={1: found[1]})
    assert not starting(notes(summarize(runs, "oba-joint"), runs), "Identical images")


def test_several_places_of_timing_are_all_named(make_sweep):
    runs = collect(make_sweep().write())
    runs.loc[runs.seed == 1, ["device", "threads"]] = ["cuda", 2]
    (note,) = starting(notes(summarize(runs, "oba-joint"), runs), "Speedup")
    assert note.endswith("(cpu, 1 thread, batch 32; cuda, 2 threads, batch 32).")


def test_long_lists_are_cut():
    assert enumerate_some(["a", "b"], "runs.csv") == "a; b"
    assert enumerate_some(list("abcdefgh"), "runs.csv") == "a; b; c; d; e; f; and 2 more in runs.csv"
