"""``oba compare``: the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from oba.layout import RESULTS


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Study file, experiment, chain, level or net.")],
    b: Annotated[
        str, typer.Argument(metavar="B", help="Another of the same kind; or of study and experiment, one each.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print all that differs as JSON.")] = False,
    results: Annotated[Path, typer.Option(help="Folder of the experiments.")] = RESULTS,
) -> None:
    """Say what differs between two studies, experiments, chains or nets.

    That is settings, code, data, versions, machine and results. A and B are
    study files (study.yaml, study.json), experiments (results/digits, or just
    digits), chains (results/digits/resnet14/seed0/oba-iterative), levels
    (.../keep0.50) or stored nets (.../finetuned). Settings are compared with all
    defaults filled in, so neither their order nor comments matter. Code is
    compared stage by stage, by digests that cover the modules a stage uses and
    the versions of the libraries behind them. Nets are matched by model, seed,
    method, schedule, keep and variant; differences are B minus A, paired by
    seed, with the sample standard deviation.

    Exit code, as of diff: 0 if nothing differs (latency apart, which differs
    each time it is measured), 1 if something does; 2 for wrong usage, and 3 or
    more if A and B cannot be compared.
    """
    from oba.compare.differences import compare_sides
    from oba.compare.sides import read_side
    from oba.compare.words import print_comparison, summary

    found = compare_sides(read_side(a, results), read_side(b, results))
    if as_json:
        typer.echo(json.dumps({"summary": summary(found)} | found.to_json(), indent=1, ensure_ascii=False))
    else:
        from rich.console import Console

        print_comparison(found, Console(highlight=False))
    sys.exit(0 if found.same else 1)
