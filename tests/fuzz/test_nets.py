"""A damaged net is never loaded as if it were whole, and a damaged weight file is refused in one line."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from oba.errors import FileError, ModelError
from oba.files import digest_file, digest_json
from oba.models import build_model, load_weights
from oba.models.stored import PLAN, WEIGHTS, ModelCard, save_pruned
from oba.models.weights import check_weights
from oba.pruning.dependencies import find_groups
from oba.pruning.replay import apply_plan, load_masked, removal_plan

CARD = ModelCard("resnet8x0.25", 3, (1, 8, 8), ("a", "b", "c"), (0.5,), (0.25,))
Damaged = Callable[[Any], st.SearchStrategy[Any]]
Refusal = Callable[[Callable[[], object]], tuple[type, str] | None]


def net() -> nn.Module:
    return build_model(CARD.name, num_classes=CARD.num_classes, input_size=CARD.input_size)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a net that lost channels and single weights."""
    torch.manual_seed(0)
    model, folder = net(), tmp_path_factory.mktemp("stored")
    groups = find_groups(model, CARD.input_size)
    plan = removal_plan(model, groups, {group.name: [0, 1] for group in groups if len(group) > 4})
    apply_plan(model, plan)
    masks = {name: torch.rand_like(weight) > 0.5 for name, weight in model.named_parameters() if weight.dim() == 4}
    for name, kept in masks.items():
        model.get_parameter(name).data *= kept
    save_pruned(folder, model, CARD, plan, masks)
    return folder


def same(one: nn.Module, other: nn.Module) -> bool:
    states = [model.state_dict() for model in (one, other)]
    return states[0].keys() == states[1].keys() and all(
        torch.equal(t, states[1][name]) for name, t in states[0].items()
    )


def check(refusal: Refusal, folder: Path) -> nn.Module | None:
    """Return the net in a folder; if it is refused, the reason must be one line that names the folder."""
    if refused := refusal(lambda: load_masked(folder)):
        assert refused[0] is FileError
        assert refused[1].startswith(str(folder))
        assert "\n" not in refused[1]
        return None
    return load_masked(folder)[0]


def write(place: Path, stored: Path, *, plan: bytes | None = None, weights: bytes | None = None) -> Path:
    folder = place / "net"
    folder.mkdir(exist_ok=True)
    (folder / PLAN).write_bytes(plan if plan is not None else (stored / PLAN).read_bytes())
    (folder / WEIGHTS).write_bytes(weights if weights is not None else (stored / WEIGHTS).read_bytes())
    return folder


def signed(values: Any) -> bytes:
    """Return a plan file with the digest that it should have, as a stranger could write it."""
    if isinstance(values, dict):
        values = values | {"digest": digest_json({k: v for k, v in values.items() if k != "digest"})}
    return json.dumps(values).encode()


@given(data=st.data())
def test_damaged_plan_files(
    damaged_bytes: Damaged, refusal: Refusal, place: Path, stored: Path, data: st.DataObject
) -> None:
    plan = data.draw(damaged_bytes((stored / PLAN).read_bytes()))
    loaded = check(refusal, write(place, stored, plan=plan))
    if loaded is not None:  # white space, say
        assert json.loads(plan) == json.loads((stored / PLAN).read_bytes())


@given(data=st.data())
def test_foreign_plans(
    damaged_values: Damaged, refusal: Refusal, place: Path, stored: Path, data: st.DataObject
) -> None:
    before = json.loads((stored / PLAN).read_bytes())
    values = data.draw(damaged_values(before))
    try:
        plan = signed(values)
    except TypeError:  # keys that JSON does not have
        assume(False)
    loaded = check(refusal, write(place, stored, plan=plan))
    if loaded is not None:
        assert same(loaded, load_masked(stored)[0]), "a plan fits weights of its own sizes only"


@given(data=st.data())
def test_damaged_weights(
    damaged_bytes: Damaged, refusal: Refusal, place: Path, stored: Path, data: st.DataObject
) -> None:
    weights = data.draw(damaged_bytes((stored / WEIGHTS).read_bytes()))
    assert check(refusal, write(place, stored, weights=weights)) is None


@given(data=st.data())
def test_foreign_weights(
    damaged_bytes: Damaged, refusal: Refusal, place: Path, stored: Path, data: st.DataObject
) -> None:
    header = (stored / WEIGHTS).read_bytes()[:3000]
    weights = data.draw(damaged_bytes(header)) + (stored / WEIGHTS).read_bytes()[3000:]
    folder = write(place, stored, weights=weights)
    values = json.loads((stored / PLAN).read_bytes()) | {"weights": digest_file(folder / WEIGHTS)}
    (folder / PLAN).write_bytes(signed(values))
    loaded = check(refusal, folder)
    if loaded is not None:
        shapes = [{n: t.shape for n, t in m.state_dict().items()} for m in (loaded, load_masked(stored)[0])]
        assert shapes[0] == shapes[1]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return weight files of all kinds by their endings."""
    folder, state = tmp_path_factory.mktemp("weights"), net().state_dict()
    save_file(state, folder / "net.safetensors")
    torch.save(state, folder / "net.pt")
    torch.save({"model": state, "epoch": 3}, folder / "net.pth", _use_new_zipfile_serialization=False)
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("ending", [".safetensors", ".pt", ".pth"])
@settings(max_examples=30)  # torch takes its time
@given(data=st.data())
def test_damaged_weight_files(
    damaged_bytes: Damaged,
    refusal: Refusal,
    place: Path,
    checkpoints: dict[str, bytes],
    ending: str,
    data: st.DataObject,
) -> None:
    path, whole = place / f"net{ending}", checkpoints[ending]
    part = len(whole) if data.draw(st.booleans()) else 2000  # as often where names and shapes are
    path.write_bytes(data.draw(damaged_bytes(whole[:part])) + whole[part:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of old forms of its files
        for call in (lambda: check_weights(net(), path), lambda: load_weights(net(), path)):
            if refused := refusal(call):
                assert refused[0] is ModelError
                assert refused[1].startswith(str(path))
                assert "\n" not in refused[1]


@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
@given(content=st.binary(max_size=200))
@example(content=b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.")
@example(content=b"\xff" * 8 + b"{}")
@example(content=b"\x00" * 8)
def test_any_bytes_are_no_weights(refusal: Refusal, place: Path, ending: str, content: bytes) -> None:
    path = place / f"any{ending}"
    path.write_bytes(content)
    refused = refusal(lambda: load_weights(net(), path))
    assert refused is not None
    assert refused[0] is ModelError
    assert refused[1].startswith(str(path))
