from __future__ import annotations

import json

import pytest

from oba.errors import FileError
from oba.files import write_json
from oba.pruning.plan import Kept, Plan
from oba.report.plans import KeptChannels, Layer, read_channels, read_layers
from oba.structures import Slice, StructureGroup, groups_to_json

LAYERS = [Layer("stem", 4, ()), Layer("a.conv", 6, ("a.depthwise",))]


def rows(count, width=1):
    return tuple(tuple(range(i * width, (i + 1) * width)) for i in range(count))


def test_layers_come_in_the_order_of_the_net_with_what_is_coupled(tmp_path):
    groups = [
        StructureGroup("stem", (Slice("stem", "out", rows(4)), Slice("norm", "feature", rows(4)))),
        StructureGroup("a.conv", (Slice("a.conv", "out", rows(3, 2)), Slice("a.depthwise", "out", rows(3, 2)))),
    ]
    write_json(tmp_path / "structures.json", groups_to_json(groups))
    assert read_layers(tmp_path / "structures.json") == LAYERS


def test_groups_of_one_layer_are_one_layer_and_others_none(tmp_path):
    groups = [
        StructureGroup("conv", (Slice("conv", "out", ((0,), (1,))),)),
        StructureGroup("embedding", (Slice("embedding", "feature", ((0,), (1,))),)),
        StructureGroup("conv#2", (Slice("conv", "out", ((2, 3), (4, 5))),)),
    ]
    write_json(tmp_path / "structures.json", groups_to_json(groups))
    assert read_layers(tmp_path / "structures.json") == [Layer("conv", 6, ())]


def test_channels_of_a_plan_as_the_pruning_room_writes_it(tmp_path):
    plan = Plan({
        ("stem", "out"): Kept(4, (0, 3)),
        ("a.conv", "in"): Kept(4, (0, 3)),
        ("norm", "feature"): Kept(4, (0,)),
    })
    write_json(tmp_path / "plan.json", {"card": {}, "plan": plan.to_json()})
    assert read_channels(tmp_path / "plan.json", LAYERS) == {"stem": KeptChannels(2, 4)}


def test_a_plan_that_removes_nothing(tmp_path):
    write_json(tmp_path / "plan.json", {"card": {}, "plan": Plan().to_json()})
    assert read_channels(tmp_path / "plan.json", LAYERS) == {}


ENTRY = {"layer": "stem", "axis": "out", "size": 4, "kept": [0, 1]}


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"plan": {}},
        {"plan": {"axes": 3}},
        {"plan": {"axes": [{"layer": "stem", "axis": "out", "size": 4}]}},
        *(
            {"plan": {"axes": [ENTRY | {"kept": kept}]}}
            for kept in ("01", [0.5], [], [0, 0], [4], [-1], [0, 1, 2, 3, 4])
        ),
        {"plan": {"axes": [ENTRY | {"size": "4"}]}},
    ],
)
def test_malformed_plans_are_refused(tmp_path, document):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document))
    with pytest.raises(FileError, match=r"plan\.json: not a plan"):
        read_channels(path, LAYERS)


def test_a_plan_of_another_net_is_refused(tmp_path):
    write_json(tmp_path / "plan.json", {"plan": {"axes": [ENTRY | {"layer": "head"}]}})
    with pytest.raises(FileError, match=r"plan\.json: layer 'head' is not in structures\.json"):
        read_channels(tmp_path / "plan.json", LAYERS)


@pytest.mark.parametrize(
    "document", [{}, 3, [{"name": "a"}], [{"name": "a", "slices": [{"layer": "a", "axis": "out", "indices": 3}]}]]
)
def test_malformed_structures_are_refused(tmp_path, document):
    if document == {}:
        document = {"groups": []}
    write_json(tmp_path / "structures.json", document)
    with pytest.raises(FileError, match=r"structures\.json: not a list of structures"):
        read_layers(tmp_path / "structures.json")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileError, match=r"plan\.json: no such file"):
        read_channels(tmp_path / "plan.json", LAYERS)
    with pytest.raises(FileError, match=r"structures\.json: no such file"):
        read_layers(tmp_path / "structures.json")
