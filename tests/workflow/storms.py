"""Storm after storm, until enough was killed: what was hit, and what differs from a run that nothing was killed in.

In every second storm all stages send to MLflow themselves, as only long ones do otherwise, so that they die at it too.

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

LATER, AT_ONCE = "FORWARD_AFTER = 20.0", "FORWARD_AFTER = 0.0"


def new(folder: Path, job_per: str, *, sending: bool) -> Storm:
    """Copy the project, perhaps so that all stages send to MLflow themselves."""
    project = copy_project(folder)
    write_study(project.root, job_per)
    job = project.root / "oba/stages/reporting.py"
    text = job.read_text()
    assert LATER in text
    job.write_text(text.replace(LATER, AT_ONCE if sending else LATER))
    return Storm(project.root, project.environment)


def main() -> None:
    """Storm until enough was killed; print what was hit, and what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="how many, at least")
    parser.add_argument("--each", type=int, default=5, help="how often each stage is hit in one storm")
    parser.add_argument("--job-per", choices=["stage", "level"], default="stage", help="as in the study")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True, help="new folder for the copies of the project")
    options = parser.parse_args()
    folder, rng = options.folder.resolve(), random.Random(options.seed)

    calm = new(folder / "calm", options.job_per, sending=False)
    lives = calm.calm()
    storms: list[Storm] = []
    hits: list[Hit] = []
    wrong: list[str] = []
    while len(hits) < options.kills:
        storms.append(storm := new(folder / f"storm{len(storms)}", options.job_per, sending=len(storms) % 2 == 0))
        storm.rage(lives, options.each, rng)
        found = [*storm.unprovoked, *unlike(calm.root, storm.root, STUDY["experiment"])]
        hits, wrong = hits + storm.hits, wrong + found
        print(f"{storm.root.name}: {len(storm.hits)} kills, {len(found)} faults", *found, sep="\n", flush=True)
    print(f"{len(hits)} kills, {len(wrong)} faults", table(hits), sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
