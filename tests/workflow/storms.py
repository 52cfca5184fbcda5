"""Storm after storm, until enough was killed: what was hit, and what differs from a run that nothing was killed in.

Run ``python tests/workflow/storms.py --kills 1000 --seed 0 --folder /tmp/storms``.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from books import unlike
from conftest import copy_project
from storm import STUDY, Hit, Storm, table, write_study


def main() -> None:
    """Storm until enough was killed; print what was hit, and what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="how many, at least")
    parser.add_argument("--each", type=int, default=5, help="how often each command is hit in one storm")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True, help="new folder for the copies of the project")
    options = parser.parse_args()

    def new(name: str) -> Storm:
        project = copy_project(options.folder.resolve() / name)
        write_study(project.root)
        return Storm(project.root, project.environment)

    calm = new("calm")
    lives, rng = calm.calm(), random.Random(options.seed)
    hits: list[Hit] = []
    wrong: list[str] = []
    while len(hits) < options.kills:
        storm = new(f"storm{len(hits):04d}")
        storm.rage(lives, options.each, rng)
        hits += storm.hits
        found = [*storm.unprovoked, *unlike(calm.root, storm.root, STUDY["experiment"])]
        wrong += found
        print(
            f"{len(hits)} kills, {len(found)} differences or failures in {storm.root.name}",
            *found,
            sep="\n",
            flush=True,
        )
    print(table(hits))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
