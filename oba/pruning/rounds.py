"""The rounds of a level as far as they are done, saved so that a killed level goes on from there.

A round has three parts that may each take minutes or hours on a large net: scoring, with the choice of what goes;
adjusting, for some updates layer by layer; and, cheap, all that is computed again when the round is replayed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from oba import ranks
from oba.pruning.plan import Plan
from oba.records import Round
from oba.snapshots import Snapshots

SAVE_AFTER = 5.0
"""Seconds of work that are worth saving; what took less is done again."""


@dataclass(frozen=True)
class Step:
    """What a round has cut.

    Attributes:
        plan: What is left, in the coordinates of the net that the round found.
        gone: Number of structures that went, by group.
    """

    plan: Plan
    gone: dict[str, int]


@dataclass
class Chosen:
    """What the round under way has decided.

    Attributes:
        removed: Indices of the structures that go, by group; empty for single weights.
        macs: MACs per image of what is left; 0 for single weights.
        predicted: By how much the loss changes according to the scores, or None.
        seconds: What scoring took.
        adjusted: Layers that the update has changed already, in order.
    """

    removed: dict[str, tuple[int, ...]] = field(default_factory=dict)
    macs: int = 0
    predicted: float | None = None
    seconds: float = 0.0
    adjusted: list[str] = field(default_factory=list)


@dataclass
class Done:
    """What is done of a level.

    Attributes:
        records: Of the rounds that have ended.
        steps: What each of them cut; empty for single weights.
        chosen: What the round after these has decided, or None.
        weights: State dict of the net after those rounds; empty where nothing was saved.
        adjusting: State dict of the cut net that an update has begun to change; empty where none has.
        masks: What is kept of the weights, with what the round under way has chosen.
    """

    records: list[Round] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    chosen: Chosen | None = None
    weights: dict[str, Tensor] = field(default_factory=dict)
    adjusting: dict[str, Tensor] = field(default_factory=dict)
    masks: dict[str, Tensor] = field(default_factory=dict)


class Rounds:
    """Where the rounds of a level are not saved."""

    def load(self) -> Done:
        """Return what is done: nothing."""
        return Done()

    def save(self, done: Done, model: nn.Module, adjusting: nn.Module | None = None) -> None:
        """Take note of what is done.

        Args:
            done: The rounds; what it says of weights does not count.
            model: The net after the rounds that have ended.
            adjusting: The cut net of the round under way, of which some layers are adjusted.
        """


class SavedRounds(Rounds):
    """The rounds of one level in a folder of their own."""

    def __init__(
        self,
        directory: Path,
        *,
        label: str,
        remember: Callable[[], tuple[Mapping[str, Any], Mapping[str, Tensor]]],
        recall: Callable[[Mapping[str, Any], Mapping[str, Tensor]], None],
    ) -> None:
        """Name the place.

        Args:
            directory: Where; its name stands for all that the level depends on.
            label: What is pruned, for people.
            remember: Returns what scoring knows besides, as values and tensors.
            recall: Takes it back.
        """
        self._snapshots = Snapshots(directory, "round-", directory.name, "state of pruning")
        self._label, self._remember, self._recall = label, remember, recall
        self._since = time.monotonic()

    def load(self) -> Done:
        """Return what a killed job has done, and say so.

        Returns:
            The rounds, tensors on the CPU.
        """
        found = self._snapshots.load()
        self._since = time.monotonic()
        if found is None:
            return Done()
        tensors: dict[str, dict[str, Tensor]] = {k: {} for k in ("weights", "adjusting", "masks", "scoring")}
        for name, tensor in found.tensors.items():
            kind, _, rest = name.partition("/")
            tensors[kind][rest] = tensor
        self._recall(found.value["scoring"], tensors.pop("scoring"))
        chosen = found.value["chosen"]
        if chosen is not None:
            chosen = Chosen(**chosen | {"removed": {name: tuple(gone) for name, gone in chosen["removed"].items()}})
        records = [Round.model_validate(record) for record in found.value["records"]]
        steps = [Step(Plan.from_json(step["plan"]), step["gone"]) for step in found.value["steps"]]
        done = Done(records, steps, chosen, **tensors)
        if ranks.is_main():
            within = f", in round {len(records) + 1}" if chosen else ""
            sys.stderr.write(f"{self._label}  resumed after round {len(records)}{within}\n")
        return done

    def save(self, done: Done, model: nn.Module, adjusting: nn.Module | None = None) -> None:
        """Write what is done, if enough has been done since the last time; of several ranks, the first does.

        Args:
            done: The rounds; what it says of weights does not count.
            model: The net after the rounds that have ended.
            adjusting: The cut net of the round under way, of which some layers are adjusted.
        """
        if time.monotonic() - self._since < SAVE_AFTER or not ranks.is_main():
            return
        values, tensors = self._remember()
        chosen = None if done.chosen is None else vars(done.chosen)
        value = {
            "records": [record.model_dump(mode="json") for record in done.records],
            "steps": [{"plan": step.plan.to_json(), "gone": step.gone} for step in done.steps],
            "chosen": chosen,
            "scoring": dict(values),
        }
        partly = {} if adjusting is None else adjusting.state_dict()
        kinds = {"weights": model.state_dict(), "adjusting": partly, "masks": done.masks, "scoring": tensors}
        flat = {f"{kind}/{name}": tensor for kind, of in kinds.items() for name, tensor in of.items()}
        self._snapshots.save(_name(done), value, flat)
        self._since = time.monotonic()


def restore(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a net the weights that were saved, if there are any.

    Args:
        model: The net, of the same shapes.
        weights: Its state dict, on any device.
    """
    if weights:
        model.load_state_dict(weights)


def _name(done: Done) -> str:
    """Name a snapshot; names are in the order of time."""
    number = len(done.records)
    if done.chosen is None:
        return f"round-{number:04d}"
    return f"round-{number + 1:04d}-layer-{len(done.chosen.adjusted):04d}"
