"""The examples in the public docstrings run as they stand."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest
import torch
from torch import nn

from oba.importance import parameters, score
from oba.structures import Slice, StructureGroup


@pytest.mark.parametrize("module", [parameters, score], ids=lambda m: m.__name__)
def test_examples_run(module: ModuleType) -> None:
    names = {"torch": torch, "nn": nn, "Slice": Slice, "StructureGroup": StructureGroup}
    results = doctest.testmod(module, extraglobs=names)
    assert results.attempted >= 4
    assert results.failed == 0
