"""A result says where it comes from."""

from __future__ import annotations

import torch

from oba import provenance


def test_provenance_names_what_a_result_depends_on():
    made = provenance.provenance()
    assert {"oba", "torch", "python", "host", "git", "time"} == set(made)
    assert made["torch"] == torch.__version__.split("+")[0]


def test_outside_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_state() == {"commit": None, "dirty": None}
