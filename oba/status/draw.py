"""Drawing a sweep for a terminal: counts of each stage, chains × levels, what runs, what failed, a closing line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from oba.layout import Coordinates
from oba.status.cells import Cell, State, left_text
from oba.status.survey import Sweep

_FEW = 30
"""Chains up to which all are shown."""
_MOST = 20
"""Jobs that run, or failed, that are listed."""
_SHARED = ("prepare", "split", "trace", "dense", "evaluate_dense")
_STYLES = {
    State.DONE: "green",
    State.RUNNING: "bold cyan",
    State.FAILED: "bold red",
    State.STOPPED: "yellow",
    State.BLOCKED: "red",
    State.OUTDATED: "yellow",
    State.WAITING: "dim",
}
_MARKS = dict(zip(State, "✓▶✗‖⊘~·", strict=True))
_PLAIN = dict(zip(State, "+>!|x~.", strict=True))
"""For terminals that know no other characters."""


class Drawing:
    """How sweeps are drawn on one terminal."""

    def __init__(self, console: Console, *, all_chains: bool = False) -> None:
        """Choose what is drawn.

        Args:
            console: The terminal.
            all_chains: Whether to show every chain, however many there are.
        """
        self._all = all_chains
        self._marks = _MARKS if console.encoding.lower().startswith("utf") else _PLAIN

    def draw(self, sweep: Sweep, *, height: int | None = None) -> RenderableType:
        """Draw a sweep.

        Args:
            sweep: The sweep.
            height: Lines that there are; what does not fit is left out, the closing line last.

        Returns:
            What rich prints.
        """
        running = [cell for cell in sweep.cells if cell.state is State.RUNNING]
        failed = [cell for cell in sweep.cells if cell.state in {State.FAILED, State.STOPPED}]
        closing = closing_line(sweep)
        counts = self._counts(sweep.cells)
        most = _MOST if height is None else max(3, min(_MOST, (height - counts.row_count - 8) // 3))
        listed = [*_listed("running", running, most), *_listed("not finished", failed, most)]
        room = None if height is None else max(0, height - counts.row_count - len(listed) - 5)
        grid = list(self._grid(sweep.cells))[:room]
        key = self._key({cell.state for cell in sweep.cells}) if grid else None
        parts = [counts, Text(), *grid, *([key, Text()] if key else []), *listed, closing]
        return Group(*parts)

    def _counts(self, cells: Sequence[Cell]) -> Table:
        """Return how many jobs of each stage are how."""
        by_stage: defaultdict[str, list[Cell]] = defaultdict(list)
        for cell in cells:
            by_stage[cell.stage].append(cell)
        shown = [state for state in State if state is State.DONE or any(cell.state is state for cell in cells)]
        table = Table(box=None, pad_edge=False, header_style="", padding=(0, 2, 0, 0))
        table.add_column("stage")
        table.add_column("jobs", justify="right")
        for state in shown:
            table.add_column(state.value, justify="right", style=_STYLES[state])
        for stage, own in by_stage.items():
            counts = [sum(cell.state is state for cell in own) for state in shown]
            table.add_row(
                stage.replace("_", " "), f"{len(own):,}", *(f"{count:,}" if count else "" for count in counts)
            )
        return table

    def _grid(self, cells: Sequence[Cell]) -> Iterator[Text]:
        """Return one line for each chain, below one for the dense net that it starts from."""
        chains: dict[Coordinates, dict[str, list[Cell]]] = {}
        dense: defaultdict[tuple[str, int | None], list[Cell]] = defaultdict(list)
        for cell in cells:
            at = cell.at
            if at.keep:
                chain = chains.setdefault(Coordinates(at.model, at.seed, at.method, at.schedule), {})
                chain.setdefault(at.keep, []).append(cell)
            elif cell.stage in _SHARED[3:]:
                dense[at.model, at.seed].append(cell)
        if not self._all and len(chains) > _FEW:
            chains = {at: levels for at, levels in chains.items() if _is_moving(levels.values())}
        width = max((len(_chain_name(at)) for at in chains), default=0)
        keeps = list(dict.fromkeys(keep for levels in chains.values() for keep in levels))
        broad = {keep: max(len(keep), max(len(levels.get(keep, ())) for levels in chains.values())) for keep in keeps}
        last = None
        for at, levels in chains.items():
            if (at.model, at.seed) != last:
                last = at.model, at.seed
                line = Text(f"{at.model} seed{at.seed}".ljust(width + 2))
                line.append("  ".join(keep.rjust(broad[keep]) for keep in keeps) if keeps else "", "dim")
                line.append("  dense ").append_text(self._marked(dense[last]))
                yield line
            line = Text(f"  {_chain_name(at)}".ljust(width + 2))
            for position, keep in enumerate(keeps):
                own = levels.get(keep, [])
                line.append("  " if position else "").append(" " * (broad[keep] - len(own)))
                line.append_text(self._marked(own))
            yield line

    def _marked(self, cells: Iterable[Cell]) -> Text:
        return Text.assemble(*((self._marks[cell.state], _STYLES[cell.state]) for cell in cells))

    def _key(self, states: set[State]) -> Text:
        line = Text("a mark for each of prune, finetune, evaluate:", "dim")
        for state in State:
            if state in states:
                line.append(" ").append(self._marks[state], _STYLES[state]).append(f" {state.value}", "dim")
        return line


def closing_line(sweep: Sweep) -> Text:
    """Return one line on a whole sweep.

    Args:
        sweep: The sweep.

    Returns:
        Such as ``tiny: 12 of 35 jobs done, 2 running, about 3:10 left``.
    """
    done, total = sweep.count(State.DONE), len(sweep.cells)
    line = Text(f"{sweep.experiment}: {done:,} of {total:,} jobs done")
    for state in (State.RUNNING, State.FAILED, State.STOPPED, State.BLOCKED, State.OUTDATED):
        if count := sweep.count(state):
            line.append(", ").append(f"{count:,} {state.value}", _STYLES[state])
    if sweep.finished:
        line.append("; finished", "green")
    elif sweep.alive:
        line.append(f"; {left_text(sweep.left)}")
        line.append(f" (run started on {sweep.host})" if sweep.host else "")
    elif sweep.host:
        line.append(f"; the last run was started on {sweep.host}, and gives no sign of life", "yellow")
    else:
        line.append("; nothing runs: `oba run` goes on", "yellow")
    return line


def _listed(what: str, cells: Sequence[Cell], most: int) -> Iterator[RenderableType]:
    """Return one line, or two, for each of some jobs."""
    for cell in cells[:most]:
        line = Text(f"{cell.name}  ", overflow="fold").append(cell.note, _STYLES[cell.state])
        yield Text(f"{cell.state.value:8s}", _STYLES[cell.state]).append(" ").append_text(line)
        if cell.state is State.FAILED:
            yield Text(f"         log: {cell.log}", "dim", overflow="fold")
    if len(cells) > most:
        yield Text(f"         and {len(cells) - most:,} more that are {what}", "dim")
    if cells:
        yield Text()


def _is_moving(levels: Iterable[Sequence[Cell]]) -> bool:
    """Tell whether something of a chain runs, or ended too soon."""
    return any(cell.state in {State.RUNNING, State.FAILED, State.STOPPED} for own in levels for cell in own)


def _chain_name(at: Coordinates) -> str:
    return f"{at.method} {at.schedule}"
