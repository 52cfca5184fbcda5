"""Heads and dimensions of attention modules as structures.

Nothing of them has to be traced: :class:`oba.models.attention.Attention` knows where its rows and columns are. A row
belongs to a head and to a dimension at once, so the groups of one module cross: what has gone with a head is no part of
a dimension any more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from torch import nn

from oba.models.attention import Attention
from oba.pruning import layers
from oba.structures import FEATURE, HEAD, IN, OUT, QUERY_KEY, VALUE, Slice, StructureGroup

_PARTS = {HEAD: "qkv", QUERY_KEY: "qk", VALUE: "v"}
_NAMES = {HEAD: "heads", QUERY_KEY: "query-key", VALUE: "value"}
_SINGLE = {HEAD: "head", QUERY_KEY: "dimension of queries and keys", VALUE: "dimension of values"}


def attention_group(name: str, module: Attention, axis: str) -> StructureGroup:
    """Return the structures of one kind of an attention module.

    Args:
        name: The module's name in the net.
        module: The module.
        axis: ``"head"``, ``"query-key"`` or ``"value"``.

    Returns:
        Its heads or dimensions, as a group called ``name.heads``, ``name.query-key`` or ``name.value``.
    """
    count = module.widths()[axis]
    slices = [Slice(name, axis, tuple((i,) for i in range(count)))]
    for layer, of_layer, rows in _positions(module, axis):
        slices.append(Slice(f"{name}.{layer}", of_layer, tuple(tuple(rows[i]) for i in range(count))))
    return StructureGroup(f"{name}.{_NAMES[axis]}", tuple(slices), kind=axis)


def obstacle_inside(module: Attention, axis: str) -> str:
    """Say why structures of one kind cannot be cut.

    Args:
        module: An attention module.
        axis: ``"head"``, ``"query-key"`` or ``"value"``.

    Returns:
        The reason in a few words, empty where there is none.
    """
    if axis == QUERY_KEY and module.rotated:
        return "turned by position in pairs of dimensions, which cannot be parted"
    norms = (module.q_norm, module.k_norm) if axis == QUERY_KEY else (module.norm,)
    for norm in norms:
        if not isinstance(norm, nn.Identity) and FEATURE not in layers.axes(norm):
            return f"normed by a {type(norm).__name__}, which cannot be cut"
    return f"a single {_SINGLE[axis]}" if module.widths()[axis] == 1 else ""


def _positions(module: Attention, axis: str) -> Iterator[tuple[str, str, dict[int, list[int]]]]:
    """Yield layers inside an attention module, an axis of each, and what each structure owns of it."""
    heads = {"q": module.num_heads, "k": module.num_kv_heads, "v": module.num_kv_heads}
    rows: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    start: dict[str, int] = defaultdict(int)
    for part, (layer, size) in module.projections().items():
        if part in _PARTS[axis]:
            for structure, positions in _owned(module, axis, heads[part], size, start[layer]).items():
                rows[layer][structure] += positions
        start[layer] += size
    for layer, of_layer in rows.items():
        yield layer, OUT, of_layer
    if axis == QUERY_KEY:
        outputs = {i: [i] for i in range(module.head_dim)}
        found = (("q_norm", FEATURE), ("k_norm", FEATURE))
    else:
        outputs = _owned(module, axis, module.num_heads, module.num_heads * module.value_dim)
        found = (("norm", FEATURE), ("gate", OUT), ("proj", IN))
    for layer, of_layer in found:
        if of_layer in layers.axes(getattr(module, layer)):
            yield layer, of_layer, outputs


def _owned(module: Attention, axis: str, heads: int, size: int, start: int = 0) -> dict[int, list[int]]:
    """Return what each structure owns of positions that lie head by head."""
    owned: dict[int, list[int]] = defaultdict(list)
    for position in range(size):
        head, dimension = divmod(position, size // heads)
        owned[head * module.num_kv_heads // heads if axis == HEAD else dimension].append(start + position)
    return owned
