"""What is left of every layer: of its channels, or of its weights where single weights went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from oba.files import read_record
from oba.records import Pruned
from oba.report.granularity import STRUCTURES, WEIGHTS
from oba.report.net import FINETUNED, Net
from oba.report.plans import read_channels, read_layers


@dataclass(frozen=True)
class Kept:
    """One model, as methods of one granularity leave it.

    Attributes:
        granularity: Structures or weights.
        names: How layers are shown, in the order of the net; ``(+2)`` where two others are coupled.
        dense: Layer -> channels, or weights, of the dense net.
        left: The same of each pruned net.
    """

    granularity: str
    names: list[str]
    dense: Mapping[str, int]
    left: Mapping[Net, Mapping[str, int]]


def read_kept(nets: Sequence[Net], model: str) -> Iterator[Kept]:
    """Read what the fine-tuned nets of a model keep.

    Args:
        nets: The finished nets.
        model: The model.

    Yields:
        Of methods that remove structures, if there are any or no others, and of those that remove weights.
    """
    chosen = [net for net in nets if net.model == model and net.variant == FINETUNED and net.is_pruned]
    masked = {net: weights for net in chosen if (weights := read_record(net.pruned / "metrics.json", Pruned).weights)}
    cut = [net for net in chosen if net not in masked]
    if cut or not masked:
        layers = read_layers(cut[0].pruned.parents[3] / "structures.json") if cut else []
        plans = {net: read_channels(net.pruned / "plan.json", layers) for net in cut}
        dense = {layer.name: layer.channels for layer in layers}
        dense |= {name: plan[name].dense for plan in plans.values() for name in plan if name in dense}
        left = {net: {n: p[n].kept if n in p else whole for n, whole in dense.items()} for net, p in plans.items()}
        names = [f"{layer.name} (+{len(layer.coupled)})" if layer.coupled else layer.name for layer in layers]
        yield Kept(STRUCTURES, names, dense, left)
    if masked:
        dense = next(iter(masked.values())).dense
        names = [name.removesuffix(".weight") for name in dense]
        yield Kept(WEIGHTS, names, dense, {net: weights.kept for net, weights in masked.items()})
