"""Results may lie elsewhere: an experiment's folder, or all results, behind a symbolic link, as on clusters."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from oba.config import Study
from oba.files import read_json
from oba.layout import Coordinates, Layout
from oba.stages.job import execute
from oba.tracking import resolve_uri, sync


def link_experiment(checkout: Path, scratch: Path) -> None:
    (checkout / "results").mkdir()
    (checkout / "results/tiny").symlink_to(scratch)


def link_results(checkout: Path, scratch: Path) -> None:
    (checkout / "results").symlink_to(scratch)


def link_both(checkout: Path, scratch: Path) -> None:
    (scratch / "all").mkdir()
    (scratch / "one").mkdir()
    (checkout / "results").symlink_to(scratch / "all")
    (scratch / "all/tiny").symlink_to(scratch / "one")


Stages = Callable[..., Layout]


@pytest.fixture
def stages(study: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stages:
    """Return a function that runs stages in a checkout whose results lie elsewhere, and which is reached by a link."""

    def run(link: Callable[[Path, Path], None], jobs: dict[str, Coordinates]) -> Layout:
        checkout, scratch = tmp_path / "real/checkout", tmp_path / "scratch"
        checkout.mkdir(parents=True)
        scratch.mkdir()
        (tmp_path / "home").symlink_to(tmp_path / "real")
        link(checkout, scratch)
        monkeypatch.chdir(tmp_path / "home/checkout")
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tiny = study(models=["resnet8x0.25"], dense={"epochs": 1, "batch_size": 512}, runtime={"device": "cpu"})
        for stage, at in jobs.items():
            execute(stage, tiny, at, source=Path("study.yaml"))
        return Layout("tiny")

    return run


@pytest.mark.parametrize("link", [link_experiment, link_results])
def test_stages_find_what_they_wrote_behind_a_link(
    link: Callable[[Path, Path], None], stages: Stages, tmp_path: Path
) -> None:
    layout = stages(link, {"prepare": Coordinates(), "split": Coordinates(seed=0)})
    assert (layout.data / "split-seed0.npy").resolve().is_relative_to(tmp_path / "scratch")
    record = read_json(layout.data / "split-seed0-run.json")
    assert list(record["inputs"]) == ["results/tiny/data/data.json"]


def test_a_net_trained_behind_links_is_shown_by_mlflow(stages: Stages, tmp_path: Path) -> None:
    net = Coordinates("resnet8x0.25", 0)
    jobs = {"prepare": Coordinates(), "split": Coordinates(seed=0), "trace": Coordinates(net.model), "dense": net}
    layout = stages(link_both, jobs)
    assert (layout.dense(net) / "model.safetensors").resolve().is_relative_to(tmp_path / "scratch/one")
    sync(sorted(layout.journals.glob("**/*.jsonl")), resolve_uri(None, layout.results), layout.results)
    sent = [path.name for path in Path("results/mlartifacts").rglob("*run.json")]
    assert sorted(sent) == ["run.json", "run.json", "split-seed0-run.json", "structures-run.json"]
    with closing(sqlite3.connect("results/mlflow.db")) as database:
        assert database.execute("select status, count(*) from runs group by status").fetchall() == [("FINISHED", 4)]
