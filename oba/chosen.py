"""The registered entries that a study chooses for a job: their code counts for the job, and no other entry's."""

from __future__ import annotations

from collections.abc import Callable

from oba.config import PARTS, Study
from oba.layout import DENSE_LONGER, Coordinates, finetune_of, method_of, model_of
from oba.recipes import TrainConfig

Entries = list[tuple[str, str]]
"""Pairs of a kind and a name, as :mod:`oba.registry` knows them."""


def parts_of_method(study: Study, at: Coordinates) -> Entries:
    """Return what a method consists of; nothing for the control that removes nothing."""
    if at.method == DENSE_LONGER:
        return []
    method = method_of(study, at.method)
    return [(method.kind(part), getattr(method, part).name) for part in PARTS]


def _for_training(recipe_of: Callable[[Study, Coordinates], TrainConfig]) -> Callable[[Study, Coordinates], Entries]:
    """Return a function: what a job that trains by some recipe needs beside the loop."""

    def entries(study: Study, at: Coordinates) -> Entries:
        synchronized = ["synchronized"] if study.runtime.sync_batchnorm else []
        needed = {"ingredient": [*recipe_of(study, at).ingredients, *synchronized]}
        needed["augmentation"] = study.augment.augmentations
        return [(kind, name) for kind, names in needed.items() for name in names]

    return entries


for_dense = _for_training(lambda study, at: model_of(study, at.model).dense)
for_finetune = _for_training(finetune_of)
for_scratch = _for_training(lambda study, at: study.scratch or model_of(study, at.model).dense)
