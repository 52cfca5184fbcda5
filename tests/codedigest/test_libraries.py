"""A digest moves with the version of a library that computes, and of no other."""

from __future__ import annotations

from importlib.metadata import packages_distributions

import pytest
from jobs import JOBS, NETS, all_digests

from oba import codedigest
from oba.codedigest import NEUTRAL_LIBRARIES, code_digest, libraries


@pytest.mark.parametrize(
    ("job", "counted"),
    [
        ("prepare", {"PIL", "numpy", "sklearn"}),
        ("split", {"PIL", "numpy"}),
        ("trace", {"torch", "torch_pruning"}),
        ("dense", {"PIL", "numpy", "torch"}),
        ("dense timm", {"PIL", "numpy", "torch", "timm"}),
        ("dense any", {"PIL", "numpy", "torch", "timm", "torchvision"}),
        ("report", {"PIL", "matplotlib", "numpy", "pandas"}),
    ],
)
def test_libraries_that_compute_are_covered(job, counted):
    stage, roots = JOBS[job]
    assert set(libraries(f"oba.stages.{stage}", *roots)) == counted


@pytest.mark.parametrize(
    ("library", "jobs"),
    [
        ("torch", NETS),
        ("numpy", set(JOBS) - {"trace"}),
        ("pillow", set(JOBS) - {"trace"}),
        ("scikit-learn", {"prepare", "prepare any"}),
        ("torch_pruning", {"trace"}),
        ("timm", {"dense timm", "dense any", "finetune any"}),
        ("torchvision", {"prepare any", "dense any", "finetune any"}),
        ("pandas", {"collect", "report"}),
        *((name, set()) for name in ("snakemake", "mlflow", "rich", "tqdm", "pydantic", "safetensors", "filelock")),
    ],
)
def test_another_version_of_a_library_reruns_what_computes_with_it(before, monkeypatch, library, jobs):
    installed = codedigest.version
    monkeypatch.setattr(codedigest, "version", lambda name: "0.0" if name == library else installed(name))
    codedigest._version.cache_clear()
    after = all_digests()
    codedigest._version.cache_clear()
    code_digest.cache_clear()
    assert {job for job in JOBS if after[job] != before[job]} == jobs


def test_libraries_that_are_not_installed_are_absent(monkeypatch):
    def missing(name: str) -> str:
        raise codedigest.PackageNotFoundError(name)

    monkeypatch.setattr(codedigest, "version", missing)
    codedigest._version.cache_clear()
    assert libraries("oba.models.families.timm") == {"timm": "absent", "torch": "absent"}
    codedigest._version.cache_clear()


def test_every_library_is_found_under_its_distribution():
    distributions = packages_distributions()
    covered = {library for stage, roots in JOBS.values() for library in libraries(f"oba.stages.{stage}", *roots)}
    for library in covered:
        given = codedigest._DISTRIBUTIONS.get(library, library)
        assert given.replace("_", "-") in {d.lower() for d in distributions[library]}
    assert NEUTRAL_LIBRARIES.keys() <= distributions.keys()
