"""Nets on disk: the weights beside the plan and the card that rebuild the net for them.

Writing is apart from :mod:`oba.pruning.replay`, which reads: a dense net is stored like a pruned one, and its
training must not depend on how plans are replayed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from oba import ranks
from oba.errors import FileError
from oba.files import digest_file, digest_json, write_json, write_tensors
from oba.models.weight_masks import Masks, pack

WEIGHTS = "model.safetensors"
PLAN = "plan.json"


@dataclass(frozen=True)
class ModelCard:
    """What rebuilds the dense net and feeds it.

    Attributes:
        name: Name that ``oba.models.build_model`` knows.
        num_classes: Number of outputs.
        input_size: Channels, height and width.
        classes: Names of the classes, in the order of the outputs.
        mean: Mean of each input channel, in [0, 1] units.
        std: Standard deviation of each input channel, in [0, 1] units.
    """

    name: str
    num_classes: int
    input_size: tuple[int, int, int]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the card as plain JSON values.

        Returns:
            One entry per attribute.
        """
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Any) -> ModelCard:
        """Return the card that :meth:`to_json` wrote.

        Args:
            data: The parsed JSON.

        Returns:
            The card.

        Raises:
            FileError: If the values are not a card.
        """
        try:
            channels, height, width = map(int, data["input_size"])
            return cls(
                name=str(data["name"]),
                num_classes=int(data["num_classes"]),
                input_size=(channels, height, width),
                classes=tuple(map(str, data["classes"])),
                mean=tuple(map(float, data["mean"])),
                std=tuple(map(float, data["std"])),
            )
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise FileError(f"not a model card ({type(error).__name__}: {error})") from error


class SupportsJson(Protocol):
    """Something that plain values can be made of, such as a plan."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        ...


def save_pruned(
    directory: Path,
    model: nn.Module,
    card: ModelCard,
    plan: SupportsJson | None = None,
    masks: Masks | None = None,
) -> None:
    """Write a net as ``model.safetensors`` and ``plan.json``, each atomically, the plan last.

    Of the ranks of a job only the first writes.

    Args:
        directory: Where; made if missing.
        model: The net that the plan leaves (the dense net with the identity plan).
        card: What rebuilds the dense net.
        plan: What is left of the dense net; all of it if not given.
        masks: What is kept of its weights; the others must be 0, and take no place in the file.
    """
    if not ranks.is_main():
        return
    directory = Path(directory)
    write_tensors(directory / WEIGHTS, pack(model.state_dict(), masks or {}))
    values = {
        "card": card.to_json(),
        "plan": plan.to_json() if plan else {"axes": []},
        "weights": digest_file(directory / WEIGHTS),
    }
    write_json(directory / PLAN, values | {"digest": digest_json(values)})
