"""The model card's text where it is not plain: names of classes, masks, nets without a history."""

from __future__ import annotations

import pytest
import yaml
from stored_nets import card_of

from oba.export.card import code, model_card
from oba.export.export import export_pruned
from oba.export.metadata import Exported, Metadata
from oba.export.source import Git
from oba.files import read_record


@pytest.fixture
def metadata(store, tmp_path) -> Metadata:
    export_pruned(store(masked=True), tmp_path / "out", "state-dict", latency_runs=3)
    return read_record(tmp_path / "out" / "metadata.json", Metadata)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat", "`cat`"),
        ("a|b", r"`a\|b`"),
        ("tick ` tock", "`` tick ` tock ``"),
        ("``", "``` `` ```"),
        ("two\nlines", "`two lines`"),
        ("<b>bold</b>", "`<b>bold</b>`"),
    ],
)
def test_names_are_code_whatever_they_hold(text, expected):
    assert code(text) == expected


def test_masked_weights_are_told_apart_from_those_that_are_gone(metadata):
    text = model_card(metadata)
    assert metadata.weights is not None
    kept, dense = sum(metadata.weights.kept.values()), sum(metadata.weights.dense.values())
    assert f"| weights that are not masked | {kept:,} | {dense:,} | {100 * kept / dense:.1f} % kept |" in text
    assert "Masked weights take one bit each in the file, and dense kernels gain nothing from them." in text
    text = model_card(metadata.model_copy(update={"format": "onnx", "opset": 18}))
    assert "Masked weights are stored as zeros, and" in text
    assert "| ONNX opset | 18 |" in text
    assert yaml.safe_load(text.split("---\n")[1]) == {
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "oba", "onnx", "pruned"],
    }


def test_the_speed_is_told_with_its_circumstances(metadata):
    speed = metadata.latency
    assert speed is not None
    text = model_card(metadata)
    assert f"{speed.speedup:.2f} times as fast ({speed.speedup_low:.2f} to {speed.speedup_high:.2f})" in text
    assert "the median of 3 passes of 32 images in torch" in text
    assert "on a CPU with 1 thread, in turns with the dense architecture" in text


def test_of_many_classes_the_first_are_named(metadata):
    assert "9 `class 9`\n" in model_card(metadata)
    many = card_of("x", (3, 8, 8), 1000).classes
    text = model_card(metadata.model_copy(update={"classes": list(many)}))
    assert "19 `class 19`, and 980 more in `metadata.json`" in text
    assert "class 20`" not in text
    assert "## Classes" not in model_card(metadata.model_copy(update={"classes": []}))


@pytest.mark.parametrize(
    ("git", "expected"),
    [
        (Git(commit=None, dirty=None), "(not from a checkout)"),
        (Git(commit="0123456789abcdef", dirty=True), "(commit `0123456789ab` with local changes)"),
        (Git(commit="0123456789abcdef", dirty=False), "(commit `0123456789ab`)"),
    ],
)
def test_the_commit_is_named(metadata, git, expected):
    exported = Exported(git=git, versions={"oba": "0.1.0", "torch": "2.14.1"}, time="2026-11-27T12:00:00+00:00")
    text = model_card(metadata.model_copy(update={"exported": exported}))
    assert f"| exported with | oba 0.1.0, torch 2.14.1 {expected}, 2026-11-27T12:00:00+00:00 |" in text
