"""A comparison in words: one line that sums it up, and a short table for each group of what differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from oba.compare.differences import Comparison
from oba.compare.results import Results, Row, Spread
from oba.compare.settings import Difference, shown

_MOST_ROWS, _MOST_KEYS = 20, 40
_LONGEST = 120
"""Characters of a section that is written out."""
_MINUS = "\N{MINUS SIGN}"
_MEASURED = {"test_top1": "test top-1", "val_top1": "validation top-1"}


def summary(found: Comparison) -> str:
    """Return what differs in one line.

    Args:
        found: The comparison.

    Returns:
        Settings, data, code, what else a result may depend on; then what the nets in common reach.
    """
    changed = len(found.settings)
    settings = f"{changed} setting{'s' * (changed != 1)} differ{'s' * (changed == 1)}" if changed else "same settings"
    if not changed and found.neutral:
        settings += " but for " + ", ".join(dict.fromkeys(one.key.partition(".")[0] for one in found.neutral))
    if found.only_settings:
        return settings
    stages = [code.stage for code in found.code if not code.chosen]
    chosen = [code.stage for code in found.code if code.chosen]
    code = f"other code ({', '.join(stages)})" if stages else "same code"
    if chosen and not stages:
        code += " but for what settings choose"
    parts = [settings, "other data" if found.data else "same data"]
    parts += [code] if found.code or found.results.in_common else []
    if found.versions:
        parts.append(f"other versions ({', '.join(one.key for one in found.versions)})")
    if found.machine:
        parts.append(f"other {', '.join(one.key for one in found.machine)}")
    return f"{', '.join(parts)}; {_reached(found.results)}"


def print_comparison(found: Comparison, console: Console) -> None:
    """Print a comparison.

    Args:
        found: The comparison.
        console: Where to; 80 columns suffice.
    """
    console.print(Text(summary(found), style="bold"), soft_wrap=True)
    sides = Table.grid(padding=(0, 1))
    sides.add_row("A", Text(str(found.a.path)))
    sides.add_row("B", Text(str(found.b.path)))
    console.print(sides)
    _print_differences("Settings", found.settings, console)
    _print_differences("Settings that no result depends on", found.neutral, console)
    _print_code(found, console)
    _print_differences("Data", found.data, console)
    _print_differences("Versions", found.versions, console)
    _print_differences("Machine", found.machine, console)
    _print_results(found.results, console)


def _reached(results: Results) -> str:
    alone = [f"{len(nets)} only in {side}" for side, nets in (("A", results.only_a), ("B", results.only_b)) if nets]
    if not results.in_common:
        return ", ".join(["no nets in common", *alone])
    nets = ", ".join([f"{results.in_common} net{'s' * (results.in_common != 1)} in common", *alone])
    if results.top1 is None:
        return nets
    measured = _MEASURED[results.measured]
    if all(row.same for row in results.rows):
        return f"{measured}, MACs and parameters identical, {nets}"
    over = f" over {results.seeds} seeds" if results.seeds > 1 else ""
    return f"{measured} {_points(results.top1)}{over}, {nets}"


def _points(spread: Spread) -> str:
    """Write a difference of fractions in percentage points."""
    text = f"{100 * spread.mean:+z.1f}".replace("-", _MINUS).replace("+0.0", "0.0")
    return text if spread.std is None else f"{text} ± {100 * spread.std:.1f}"


def _table(title: str, console: Console, *columns: str) -> Table:
    console.print(Text(f"\n{title}", style="bold"))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _print_differences(title: str, found: Sequence[Difference], console: Console) -> None:
    if not found:
        return
    table = _table(title, console, "key", "A", "B")
    for one in found[:_MOST_KEYS]:
        where = f" ({', '.join(one.where)})" if one.where else ""
        table.add_row(Text(one.key + where), Text(_brief(one.a)), Text(_brief(one.b)))
    console.print(table, highlight=False)
    _print_rest(len(found) - _MOST_KEYS, console)


def _brief(value: Any) -> str:
    """Write a value; of a section that the other side lacks, where it would fill the screen, how large it is."""
    text = shown(value)
    if isinstance(value, Mapping) and len(text) > _LONGEST:
        return f"only here, with {len(value)} settings or sections"
    return text


def _print_code(found: Comparison, console: Console) -> None:
    if not found.code and not found.commits:
        return
    table = _table("Code", console, "stage", "A", "B", "jobs")
    for code in found.code:
        stage = f"{code.stage} (settings choose other modules)" if code.chosen else code.stage
        table.add_row(stage, _digests(code.a), _digests(code.b), f"{code.jobs}")
    for one in found.commits:
        a, b = ([text[:12] for text in shown(side).split(", ")] for side in (one.a, one.b))
        table.add_row(one.key, _digests(a), _digests(b), "")
    console.print(table, highlight=False)


def _digests(values: Sequence[str]) -> str:
    return values[0] + (f" and {len(values) - 1} more" if len(values) > 1 else "") if values else ""


def _print_results(results: Results, console: Console) -> None:
    differing = [row for row in results.rows if not row.same]
    if differing:
        top1 = results.measured
        many = len(differing) > _MOST_ROWS
        if many:
            differing.sort(key=lambda row: -abs(row.measures[top1].difference.mean if top1 in row.measures else 0))
        title = "Results" + (f", the {_MOST_ROWS} nets that differ most" if many else "")
        table = _table(title, console, "net", "A %", "B %", "B − A", "MACs", "params", "latency ms")
        for column in table.columns[1:]:
            column.justify, column.no_wrap = "right", True
        for row in differing[:_MOST_ROWS]:
            table.add_row(Text(_net(row, results.rows)), *_cells(row, top1))
        console.print(table, highlight=False)
        _print_rest(len(differing) - _MOST_ROWS, console)
    lines = list(_notes(results, len(results.rows) - len(differing)))
    if lines:
        console.print(Text("\n" + "\n".join(lines)), highlight=False)


def _cells(row: Row, top1: str) -> Iterator[str]:
    """Write what a net reaches on both sides, and how its cost changes in per cent of A's."""
    pair = row.measures.get(top1)
    yield from (f"{100 * pair.a:.1f}", f"{100 * pair.b:.1f}", _points(pair.difference)) if pair else ("", "", "")
    for name in ("macs", "parameters"):
        cost = row.measures.get(name)
        change = 100 * (cost.b / cost.a - 1) if cost and cost.a else 0
        yield "" if cost is None else "=" if cost.a == cost.b else f"{change:+.1f} %".replace("-", _MINUS)
    time = row.measures.get("latency_ms")
    yield f"{time.a:.3g} → {time.b:.3g}" if time else ""


def _net(row: Row, rows: Sequence[Row]) -> str:
    """Name a net by its method and level, and by those of its other coordinates that tell it apart."""
    always = {"method", "keep", *({"variant"} if "method" not in row.net and "keep" not in row.net else ())}
    telling = [
        value
        for axis, value in row.net.items()
        if axis in always or len({other.net[axis] for other in rows if axis in other.net} - {"dense"}) > 1
    ]
    return " ".join(telling) or "the net"


def _notes(results: Results, same: int) -> Iterator[str]:
    if results.rows and same < len(results.rows):
        measured = _MEASURED[results.measured].capitalize()
        yield f"{measured} in per cent; differences are B − A in points" + (
            ", seed by seed, mean ± sample standard deviation." if results.seeds > 1 else ", of one seed."
        )
    if same and same < len(results.rows):
        yield f"{same} of {len(results.rows)} nets are identical in accuracy, MACs and parameters."
    ratios = [pair.b / pair.a for row in results.rows if (pair := row.measures.get("latency_ms")) and pair.a]
    if ratios and same == len(results.rows):
        yield f"Latency, which differs each time it is measured: B takes {fmean(ratios):.2f} times A's on average."
    for side, nets in (("A", results.only_a), ("B", results.only_b)):
        if nets:
            counts = Counter(net.get("method") or net.get("keep") or net.get("variant", "") for net in nets)
            listed = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in counts.items())
            yield f"Only in {side}: {listed}"


def _print_rest(count: int, console: Console) -> None:
    if count > 0:
        console.print(f"… and {count} more: --json has all", highlight=False)
